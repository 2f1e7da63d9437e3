#pragma once
// What both ends of the RPC agree on about their ZeroMQ sockets.

#include <cstddef>
#include <cstdint>
#include <string>
#include <zmq.hpp>

namespace fr {

// Larger messages are refused by both ends.
inline constexpr std::size_t kMaxRpcMessageBytes = std::size_t{64} << 20;

// A socket with our limits: nothing lingers after close, peers that went without a word are noticed
// within half a minute, reconnecting is automatic. IPv6 is on for an address in brackets.
zmq::socket_t MakeRpcSocket(zmq::context_t& context, zmq::socket_type type,
                            const std::string& address);

// Throws Error(kInvalidArgument) unless `address` looks like tcp://HOST:PORT; the rest of its
// syntax is for ZeroMQ to judge.
void CheckRpcAddress(const std::string& address);

// Waits until one of `events` is true of `socket`, at most until SteadyMillis() is `deadline_ms`.
// Returns false if the time is up.
bool WaitForSocket(zmq::socket_t& socket, short events, std::int64_t deadline_ms);

}  // namespace fr
