#include "common/rpc/server.h"

#include <cerrno>
#include <exception>
#include <optional>
#include <utility>
#include <zmq.hpp>
#include <zmq_addon.hpp>

#include <fmt/format.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/logging.h"
#include "common/rpc/socket.h"

namespace fr {

struct RpcServer::Socket {
  zmq::context_t context;
  zmq::socket_t router;
};

namespace {

[[noreturn]] void ThrowBindError(const std::string& address, int error_number) {
  if (error_number == EADDRINUSE) {
    throw Error(ErrorCode::kUnavailable,
                fmt::format("{}: the port is taken; another coordinator may be running here: end "
                            "it, or choose another port",
                            address));
  }
  if (error_number == ENODEV || error_number == EADDRNOTAVAIL) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: this machine does not have that address; use one of its own, "
                            "127.0.0.1 for this machine alone, or * for all of them",
                            address));
  }
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{}: cannot listen there ({}); write tcp://HOST:PORT, as in "
                          "tcp://127.0.0.1:7070",
                          address, zmq_strerror(error_number)));
}

Reply ErrorReply(ErrorCode code, const std::string& message) {
  Reply reply;
  reply.mutable_error()->set_code(static_cast<int>(code));
  reply.mutable_error()->set_message(message);
  return reply;
}

Reply Handle(const RpcServer::Handler& handler, const Request& request) {
  if (request.body_case() == Request::BODY_NOT_SET) {
    return ErrorReply(ErrorCode::kInvalidArgument,
                      "this coordinator does not know that kind of request; use the same version "
                      "of the command and of the coordinator");
  }
  try {
    return handler(request);
  } catch (const Error& error) {
    return ErrorReply(error.code(), error.what());
  } catch (const std::exception& error) {
    spdlog::error("rpc: request of kind {} failed: {}", static_cast<int>(request.body_case()),
                  error.what());
    return ErrorReply(ErrorCode::kInternal,
                      fmt::format("internal error of the coordinator: {}", error.what()));
  }
}

// The reply to one message as the ROUTER delivers it: [sender, empty, Request]. Nothing for a
// message that has no such shape, since its sender would not understand a reply either.
std::optional<Reply> Answer(const RpcServer::Handler& handler, const zmq::multipart_t& message) {
  if (message.size() != 3 || message.at(1).size() != 0) {
    spdlog::warn("rpc: dropped a message of {} frames, which is no request", message.size());
    return std::nullopt;
  }
  const zmq::message_t& body = message.at(2);
  Request request;
  if (!request.ParseFromArray(body.data(), static_cast<int>(body.size()))) {
    spdlog::warn("rpc: a message of {} bytes is no request", body.size());
    return ErrorReply(ErrorCode::kInvalidArgument,
                      fmt::format("a message of {} bytes is no request", body.size()));
  }
  Reply reply = Handle(handler, request);
  if (request.has_id()) reply.set_id(request.id());
  return reply;
}

std::string Serialize(Reply reply) {
  std::string bytes = reply.SerializeAsString();
  if (bytes.size() <= kMaxRpcMessageBytes) return bytes;
  Reply refusal = ErrorReply(ErrorCode::kResourceExhausted,
                             fmt::format("the reply would have {} bytes, more than the {} allowed; "
                                         "ask for less at a time",
                                         bytes.size(), kMaxRpcMessageBytes));
  if (reply.has_id()) refusal.set_id(reply.id());
  return refusal.SerializeAsString();
}

}  // namespace

RpcServer::RpcServer(const std::string& address, Handler handler)
    : socket_(std::make_unique<Socket>()), handler_(std::move(handler)) {
  CheckRpcAddress(address);
  socket_->router = MakeRpcSocket(socket_->context, zmq::socket_type::router, address);
  try {
    socket_->router.bind(address);
  } catch (const zmq::error_t& error) {
    ThrowBindError(address, error.num());
  }
}

RpcServer::~RpcServer() = default;

std::string RpcServer::address() const { return socket_->router.get(zmq::sockopt::last_endpoint); }

void RpcServer::Serve(std::int64_t timeout_ms) {
  const std::int64_t deadline_ms = SteadyMillis() + timeout_ms;
  std::int64_t wait_until_ms = deadline_ms;
  while (WaitForSocket(socket_->router, ZMQ_POLLIN, wait_until_ms, true)) {
    zmq::multipart_t message(socket_->router);
    if (const std::optional<Reply> reply = Answer(handler_, message)) {
      const std::string bytes = Serialize(*reply);
      zmq::multipart_t answer;
      answer.add(message.pop());
      answer.addmem(nullptr, 0);
      answer.addmem(bytes.data(), bytes.size());
      answer.send(socket_->router, static_cast<int>(zmq::send_flags::dontwait));
      wait_until_ms = 0;  // whatever else waits already, then back to the caller
    }
    if (SteadyMillis() >= deadline_ms) return;
  }
}

}  // namespace fr
