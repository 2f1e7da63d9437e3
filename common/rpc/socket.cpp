#include "common/rpc/socket.h"

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "common/base/clock.h"

namespace fr {

void ConfigureSocket(zmq::socket_t& socket) {
  socket.set(zmq::sockopt::linger, 0);
  socket.set(zmq::sockopt::ipv6, true);
  socket.set(zmq::sockopt::maxmsgsize, kMaxMessageBytes);
  socket.set(zmq::sockopt::heartbeat_ivl, 5000);
  socket.set(zmq::sockopt::heartbeat_timeout, 15000);
  socket.set(zmq::sockopt::reconnect_ivl, 100);
  socket.set(zmq::sockopt::reconnect_ivl_max, 2000);
}

void SendMessage(zmq::socket_t& socket, const std::string& bytes) {
  if (socket.send(zmq::message_t(), zmq::send_flags::sndmore | zmq::send_flags::dontwait)) {
    (void)socket.send(zmq::buffer(bytes), zmq::send_flags::dontwait);
  }
}

std::optional<std::string> ReceiveMessage(zmq::socket_t& socket, std::int64_t timeout_ms) {
  const std::int64_t deadline_ms = SteadyMillis() + std::max<std::int64_t>(timeout_ms, 0);
  zmq::pollitem_t item{socket.handle(), 0, ZMQ_POLLIN, 0};
  while (true) {
    try {
      const std::int64_t left_ms = std::max<std::int64_t>(deadline_ms - SteadyMillis(), 0);
      if (zmq::poll(&item, 1, std::chrono::milliseconds(left_ms)) == 0) return std::nullopt;
      break;
    } catch (const zmq::error_t& error) {
      if (error.num() != EINTR) throw;
    }
  }
  zmq::message_t frame;
  do {
    if (!socket.recv(frame, zmq::recv_flags::none)) return std::nullopt;
  } while (frame.more());
  return frame.to_string();
}

}  // namespace fr
