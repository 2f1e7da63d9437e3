#pragma once
// The coordinator's end of the RPC: a ZeroMQ ROUTER socket, and threads that answer what it brings.

#include <functional>
#include <memory>
#include <string>

#include "proto/rpc.pb.h"

namespace fr {

// Requests are answered several at a time, and replies may leave in another order than their
// requests came. A client has one request under way (RpcClient), so its own requests, a worker's
// reports above all, never overtake each other, except one whose reply it has given up waiting for.
//
// While more requests wait than the server cares to hold, it reads no further ones: they stay in
// the network's buffers, and with their senders.
class RpcServer {
 public:
  // Answers one request; called by several threads at a time. An Error that it throws becomes the
  // reply's error; any other exception becomes kInternal and a log line.
  using Handler = std::function<Reply(const Request&)>;

  // Binds `address` ("tcp://127.0.0.1:7070"; "tcp://*:7070" for every IPv4 address of this machine,
  // "tcp://[::]:7070" for every address; port 0 or "*" picks a free one); `threads` requests at
  // most are handled at a time. Throws Error(kInvalidArgument) for a malformed or foreign address,
  // Error(kUnavailable) when it is taken.
  RpcServer(const std::string& address, Handler handler, int threads = kDefaultThreads);
  ~RpcServer();  // Stop()
  RpcServer(const RpcServer&) = delete;
  RpcServer& operator=(const RpcServer&) = delete;

  // The address in use, with the port that was picked.
  std::string address() const;

  // Requests are answered from now on, those that came since the address was bound included. A
  // message that is no Request gets an error reply where it can, and is otherwise dropped with a
  // log line; no input ends the server. Messages over 64 MiB are refused by the socket. To be
  // called once.
  void Start();

  // Reads no more requests. Those that are being handled are waited for, and their replies sent;
  // those that wait are dropped, as by a server that was killed: clients repeat them, and so does
  // one that did not get to read its reply before the connection was closed. The second time it
  // does nothing. A stopped server cannot be started again.
  void Stop();

  // More than there are cores: a handler that makes something durable waits for the disk, and all
  // that wait at a time share one sync.
  static constexpr int kDefaultThreads = 32;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fr
