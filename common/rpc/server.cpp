#include "common/rpc/server.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>
#include <vector>
#include <zmq.hpp>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/logging.h"
#include "common/rpc/socket.h"

namespace fr {
namespace {

// Requests answered before the caller gets a turn, however many wait.
constexpr int kMaxBurst = 256;

Reply ErrorReply(ErrorCode code, const std::string& message) {
  Reply reply;
  reply.mutable_error()->set_code(static_cast<int>(code));
  reply.mutable_error()->set_message(message);
  return reply;
}

Reply Answer(const RpcServer::Handler& handler, const Request& request) {
  try {
    return handler(request);
  } catch (const Error& error) {
    return ErrorReply(error.code(), error.what());
  } catch (const std::exception& error) {
    spdlog::error("request {}: {}", static_cast<int>(request.body_case()), error.what());
    return ErrorReply(ErrorCode::kInternal, "the coordinator failed; its log says why");
  }
}

}  // namespace

struct RpcServer::Socket {
  zmq::context_t context{1};
  zmq::socket_t socket{context, zmq::socket_type::router};

  // All frames of the next message, or none if none waits.
  std::vector<zmq::message_t> Receive() {
    std::vector<zmq::message_t> frames;
    while (true) {
      zmq::message_t frame;
      if (!socket.recv(frame, zmq::recv_flags::dontwait)) return frames;
      const bool more = frame.more();
      frames.push_back(std::move(frame));
      if (!more) return frames;
    }
  }
};

RpcServer::RpcServer(const std::string& address, Handler handler)
    : socket_(std::make_unique<Socket>()), handler_(std::move(handler)) {
  ConfigureSocket(socket_->socket);
  try {
    socket_->socket.bind(address);
  } catch (const zmq::error_t& error) {
    const bool taken = error.num() == EADDRINUSE;
    throw Error(taken ? ErrorCode::kUnavailable : ErrorCode::kInvalidArgument,
                fmt::format("rpc: {}: {}", address,
                            taken ? "another process listens there: end it, or choose another port"
                                  : fmt::format("cannot listen there, such as on "
                                                "tcp://127.0.0.1:7070 ({})",
                                                error.what())));
  }
}

RpcServer::~RpcServer() = default;

std::string RpcServer::address() const { return socket_->socket.get(zmq::sockopt::last_endpoint); }

void RpcServer::Serve(std::int64_t timeout_ms) {
  zmq::pollitem_t item{socket_->socket.handle(), 0, ZMQ_POLLIN, 0};
  try {
    zmq::poll(&item, 1, std::chrono::milliseconds(timeout_ms));
  } catch (const zmq::error_t& error) {
    if (error.num() == EINTR) return;  // a signal: the caller decides
    throw;
  }
  for (int answered = 0; answered < kMaxBurst; ++answered) {
    std::vector<zmq::message_t> frames = socket_->Receive();
    if (frames.empty()) return;
    // Sender, empty delimiter, request.
    Request request;
    if (frames.size() != 3 || frames[1].size() != 0) {
      spdlog::warn("rpc: dropped a message of {} frames, which is no request", frames.size());
      continue;
    }
    const bool valid = request.ParseFromArray(frames[2].data(), static_cast<int>(frames[2].size()));
    Reply reply = valid ? Answer(handler_, request)
                        : ErrorReply(ErrorCode::kInvalidArgument, "the message is no fr.Request");
    reply.set_id(request.id());
    try {
      socket_->socket.send(frames[0], zmq::send_flags::sndmore | zmq::send_flags::dontwait);
      SendMessage(socket_->socket, reply.SerializeAsString());
    } catch (const zmq::error_t& error) {
      spdlog::warn("rpc: a reply could not be sent: {}", error.what());  // the peer is gone
    }
  }
}

}  // namespace fr
