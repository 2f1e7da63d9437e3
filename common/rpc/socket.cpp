#include "common/rpc/socket.h"

#include <algorithm>
#include <cerrno>
#include <chrono>

#include <fmt/format.h>

#include "common/base/clock.h"
#include "common/base/error.h"

namespace fr {

zmq::socket_t MakeRpcSocket(zmq::context_t& context, zmq::socket_type type,
                            const std::string& address) {
  zmq::socket_t socket(context, type);
  socket.set(zmq::sockopt::linger, 0);
  socket.set(zmq::sockopt::maxmsgsize, static_cast<std::int64_t>(kMaxRpcMessageBytes));
  // Not for names: "localhost" would become ::1, where a server on 127.0.0.1 is not.
  socket.set(zmq::sockopt::ipv6, address.find('[') != std::string::npos);
  socket.set(zmq::sockopt::heartbeat_ivl, 10'000);
  socket.set(zmq::sockopt::heartbeat_timeout, 30'000);
  socket.set(zmq::sockopt::reconnect_ivl, 100);
  socket.set(zmq::sockopt::reconnect_ivl_max, 2'000);
  return socket;
}

void CheckRpcAddress(const std::string& address) {
  const std::size_t colon = address.rfind(':');
  const bool has_port = colon != std::string::npos && colon > 6 && colon + 1 < address.size();
  if (address.starts_with("tcp://") && has_port) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("'{}' is no address; write tcp://HOST:PORT, as in tcp://127.0.0.1:7070",
                          address));
}

bool WaitForSocket(zmq::socket_t& socket, short events, std::int64_t deadline_ms) {
  while (true) {
    const std::int64_t left_ms = std::max<std::int64_t>(0, deadline_ms - SteadyMillis());
    zmq_pollitem_t item = {socket.handle(), 0, events, 0};
    const int ready = zmq_poll(&item, 1, static_cast<long>(left_ms));
    if (ready > 0) return true;
    if (ready < 0 && zmq_errno() != EINTR) throw zmq::error_t();
    if (left_ms == 0) return false;
  }
}

}  // namespace fr
