#pragma once
// What both ends of the RPC share: options of their sockets, and a message behind an empty
// delimiter frame. Private to common/rpc.

#include <cstdint>
#include <optional>
#include <string>
#include <zmq.hpp>

namespace fr {

// No message of ours is near this; a larger one is somebody else's or an attack.
constexpr std::int64_t kMaxMessageBytes = 64 << 20;

// Closing does not wait for unsent messages; large ones are refused; dead peers are noticed.
void ConfigureSocket(zmq::socket_t& socket);

// Sends the delimiter and `bytes`; never blocks: what a full queue does not take is dropped, and
// the caller's deadline finds out.
void SendMessage(zmq::socket_t& socket, const std::string& bytes);

// The next message's last frame, or nothing within `timeout_ms` (negative counts as 0).
std::optional<std::string> ReceiveMessage(zmq::socket_t& socket, std::int64_t timeout_ms);

}  // namespace fr
