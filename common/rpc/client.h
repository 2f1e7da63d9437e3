#pragma once
// The client's end of the RPC: one Request message to the coordinator's ROUTER socket, one Reply
// back, both Protobuf (proto/rpc.proto), each a single ZeroMQ frame after the empty delimiter.

#include <cstdint>
#include <memory>
#include <string>

#include "proto/rpc.pb.h"

namespace fr {

// Not thread-safe: one client a thread.
class RpcClient {
 public:
  // Connects lazily: a coordinator that is not there yet is not an error here. `address`:
  // tcp://HOST:PORT; a name means its IPv4 address, IPv6 ones are written tcp://[::1]:7070. Throws
  // Error(kInvalidArgument) for an address that ZeroMQ cannot parse.
  explicit RpcClient(std::string address);
  ~RpcClient();
  RpcClient(const RpcClient&) = delete;
  RpcClient& operator=(const RpcClient&) = delete;

  // Sends `request` (its id is set here) and waits for its reply. Without one within
  // `timeout_ms` throws Error(kUnavailable) that names the address and what to check; a reply that
  // carries an error is thrown as that Error. Never resends by itself within a call: after a throw
  // of kUnavailable the caller may call again with the same request, since every request that
  // changes something is idempotent.
  Reply Call(Request request, std::int64_t timeout_ms);

  const std::string& address() const { return address_; }

 private:
  struct Socket;
  std::string address_;
  std::unique_ptr<Socket> socket_;
  std::uint64_t next_id_ = 1;
};

}  // namespace fr
