#include "common/rpc/client.h"

#include <utility>
#include <zmq.hpp>

#include <fmt/format.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/rpc/socket.h"

namespace fr {

struct RpcClient::Socket {
  zmq::context_t context{1};
  zmq::socket_t socket{context, zmq::socket_type::dealer};
};

RpcClient::RpcClient(std::string address)
    : address_(std::move(address)), socket_(std::make_unique<Socket>()) {
  zmq::socket_t& socket = socket_->socket;
  ConfigureSocket(socket);
  try {
    socket.connect(address_);
  } catch (const zmq::error_t& error) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: is no address of a coordinator, such as tcp://127.0.0.1:7070 ({})",
                            address_, error.what()));
  }
}

RpcClient::~RpcClient() = default;

Reply RpcClient::Call(Request request, std::int64_t timeout_ms) {
  request.set_id(next_id_++);
  const std::int64_t deadline_ms = SteadyMillis() + timeout_ms;
  SendMessage(socket_->socket, request.SerializeAsString());
  Reply reply;
  while (true) {
    const std::optional<std::string> bytes =
        ReceiveMessage(socket_->socket, deadline_ms - SteadyMillis());
    if (!bytes) {
      throw Error(ErrorCode::kUnavailable,
                  fmt::format("no answer from a coordinator at {} within {} ms: is fr-coordinator "
                              "running, and is this its rpc address?",
                              address_, timeout_ms));
    }
    // An answer to an earlier call, which was given up, is dropped.
    if (reply.ParseFromString(*bytes) && reply.id() == request.id()) break;
  }
  if (reply.has_error()) {
    throw Error(static_cast<ErrorCode>(reply.error().code()), reply.error().message());
  }
  return reply;
}

}  // namespace fr
