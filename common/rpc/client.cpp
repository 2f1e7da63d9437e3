#include "common/rpc/client.h"

#include <utility>
#include <zmq.hpp>
#include <zmq_addon.hpp>

#include <fmt/format.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/rpc/socket.h"

namespace fr {

struct RpcClient::Socket {
  zmq::context_t context;
  zmq::socket_t dealer;
};

namespace {

zmq::socket_t Connect(zmq::context_t& context, const std::string& address) {
  zmq::socket_t dealer = MakeRpcSocket(context, zmq::socket_type::dealer, address);
  // Requests go to a coordinator that is there; they do not pile up for one that is not.
  dealer.set(zmq::sockopt::immediate, true);
  try {
    dealer.connect(address);
  } catch (const zmq::error_t& error) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("'{}' is no address that one can connect to ({}); write tcp://HOST:PORT, "
                    "as in tcp://127.0.0.1:7070",
                    address, error.what()));
  }
  return dealer;
}

std::string Serialize(const Request& request) {
  std::string bytes = request.SerializeAsString();
  if (bytes.size() > kMaxRpcMessageBytes) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("the request has {} bytes; at most {} can be sent at a time",
                            bytes.size(), kMaxRpcMessageBytes));
  }
  return bytes;
}

// False for a message that is not the reply to request `id`. A server that could not read the
// request answers with an error and no id; calls are one at a time, so it can only mean this one.
bool ParseReply(const zmq::multipart_t& message, std::uint64_t id, Reply* reply) {
  if (message.size() != 2 || !message.at(0).empty()) return false;
  const zmq::message_t& body = message.at(1);
  if (!reply->ParseFromArray(body.data(), static_cast<int>(body.size()))) return false;
  return reply->id() == id || (!reply->has_id() && reply->has_error());
}

void ThrowIfError(const Request& request, const Reply& reply, const std::string& address) {
  if (reply.has_error()) {
    const int code = reply.error().code();
    const bool known =
        code >= static_cast<int>(ErrorCode::kInternal) && code <= static_cast<int>(ErrorCode::kIo);
    throw Error(known ? static_cast<ErrorCode>(code) : ErrorCode::kInternal,
                reply.error().message());
  }
  // A request's body and its reply's have the same field number.
  if (static_cast<int>(reply.body_case()) != static_cast<int>(request.body_case())) {
    throw Error(ErrorCode::kInternal,
                fmt::format("the coordinator at {} answered a request of kind {} with kind {}: it "
                            "is of another version; use the same one on both sides",
                            address, static_cast<int>(request.body_case()),
                            static_cast<int>(reply.body_case())));
  }
}

}  // namespace

RpcClient::RpcClient(std::string address)
    : address_(std::move(address)), socket_(std::make_unique<Socket>()) {
  CheckRpcAddress(address_);
  socket_->dealer = Connect(socket_->context, address_);
}

RpcClient::~RpcClient() = default;

Reply RpcClient::Call(Request request, std::int64_t timeout_ms) {
  const std::int64_t deadline_ms = SteadyMillis() + timeout_ms;
  request.set_id(next_id_++);
  const std::string bytes = Serialize(request);

  if (!WaitForSocket(socket_->dealer, ZMQ_POLLOUT, deadline_ms)) {
    throw Error(ErrorCode::kUnavailable,
                fmt::format("no coordinator answers at {} (tried for {} ms); is fr-coordinator "
                            "running there, and is the address right?",
                            address_, timeout_ms));
  }
  zmq::multipart_t message;
  message.addmem(nullptr, 0);
  message.addmem(bytes.data(), bytes.size());
  message.send(socket_->dealer);

  while (WaitForSocket(socket_->dealer, ZMQ_POLLIN, deadline_ms)) {
    zmq::multipart_t received(socket_->dealer);
    Reply reply;
    if (!ParseReply(received, request.id(), &reply)) continue;
    ThrowIfError(request, reply, address_);
    return reply;
  }
  // A fresh connection for the next call: this one may be dead without knowing, and whatever it
  // still delivers belongs to this call.
  socket_->dealer = Connect(socket_->context, address_);
  throw Error(
      ErrorCode::kUnavailable,
      fmt::format("the coordinator at {} did not reply within {} ms; it may be busy or have "
                  "ended meanwhile: look at its log, then try again",
                  address_, timeout_ms));
}

}  // namespace fr
