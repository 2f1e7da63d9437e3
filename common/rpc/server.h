#pragma once
// The coordinator's end of the RPC: a ZeroMQ ROUTER socket.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "proto/rpc.pb.h"

namespace fr {

class RpcServer {
 public:
  // Answers one request. An Error that it throws becomes the reply's error; any other exception
  // becomes kInternal and a log line.
  using Handler = std::function<Reply(const Request&)>;

  // Binds `address` ("tcp://127.0.0.1:7070"; "tcp://*:7070" for every IPv4 address of this machine,
  // "tcp://[::]:7070" for every address; port 0 or "*" picks a free one). Throws
  // Error(kInvalidArgument) for a malformed or foreign address, Error(kUnavailable) when it is
  // taken.
  RpcServer(const std::string& address, Handler handler);
  ~RpcServer();
  RpcServer(const RpcServer&) = delete;
  RpcServer& operator=(const RpcServer&) = delete;

  // The address in use, with the port that was picked.
  std::string address() const;

  // Answers requests for at most `timeout_ms`, returning early after a signal or once at least one
  // was answered and none waits. A message that is no Request gets an error reply where it can, and
  // is otherwise dropped with a log line; no input ends the server. Messages over 64 MiB are
  // refused by the socket.
  void Serve(std::int64_t timeout_ms);

 private:
  struct Socket;
  std::unique_ptr<Socket> socket_;
  Handler handler_;
};

}  // namespace fr
