#include "common/rpc/server.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>
#include <zmq.hpp>
#include <zmq_addon.hpp>

#include <fmt/format.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/logging.h"
#include "common/rpc/socket.h"

namespace fr {

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

Reply Answer(const RpcServer::Handler& handler, const zmq::message_t& body) {
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

std::string Serialize(const Reply& reply) {
  std::string bytes = reply.SerializeAsString();
  if (bytes.size() <= kMaxRpcMessageBytes) return bytes;
  Reply refusal = ErrorReply(ErrorCode::kResourceExhausted,
                             fmt::format("the reply would have {} bytes, more than the {} allowed; "
                                         "ask for less at a time",
                                         bytes.size(), kMaxRpcMessageBytes));
  if (reply.has_id()) refusal.set_id(reply.id());
  return refusal.SerializeAsString();
}

struct WaitingRequest {
  zmq::message_t sender;  // as the ROUTER names it
  zmq::message_t body;
};

// From the socket's thread to those that handle. Who fills it asks for room first.
class RequestQueue {
 public:
  bool HasRoom() const {
    const std::lock_guard lock(mutex_);
    return requests_.size() < kMaxRequests && bytes_ < kMaxBytes;
  }

  void Push(WaitingRequest request) {
    {
      const std::lock_guard lock(mutex_);
      bytes_ += request.body.size();
      requests_.push_back(std::move(request));
    }
    changed_.notify_one();
  }

  // Waits for a request; nothing once the queue is closed, whatever is left in it.
  std::optional<WaitingRequest> Pop() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return closed_ || !requests_.empty(); });
    if (closed_) return std::nullopt;
    WaitingRequest request = std::move(requests_.front());
    requests_.pop_front();
    bytes_ -= request.body.size();
    return request;
  }

  void Close() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    changed_.notify_all();
  }

 private:
  static constexpr std::size_t kMaxRequests = 1024;
  static constexpr std::size_t kMaxBytes = 4 * kMaxRpcMessageBytes;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<WaitingRequest> requests_;
  std::size_t bytes_ = 0;
  bool closed_ = false;
};

// From the threads that handle to the socket's, which polls the descriptor: it is readable while
// there is something to do.
class ReplyList {
 public:
  ReplyList() : event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (!event_.valid()) {
      throw Error(ErrorCode::kResourceExhausted,
                  fmt::format("cannot make an event descriptor: {}; allow more open files "
                              "(ulimit -n)",
                              ErrnoText()));
    }
  }

  int descriptor() const { return event_.get(); }

  void Push(zmq::multipart_t reply) {
    {
      const std::lock_guard lock(mutex_);
      replies_.push_back(std::move(reply));
    }
    Wake();
  }

  void Wake() {
    const std::uint64_t one = 1;
    // It fails only when the counter is full, which wakes as well.
    [[maybe_unused]] const ssize_t written = write(event_.get(), &one, sizeof(one));
  }

  std::vector<zmq::multipart_t> TakeAll() {
    std::uint64_t count = 0;
    // Before the list is taken: what is pushed from here on wakes again.
    [[maybe_unused]] const ssize_t size = read(event_.get(), &count, sizeof(count));
    const std::lock_guard lock(mutex_);
    return std::exchange(replies_, {});
  }

 private:
  const FileDescriptor event_;
  std::mutex mutex_;
  std::vector<zmq::multipart_t> replies_;
};

}  // namespace

struct RpcServer::Impl {
  const Handler handler;
  const int threads;
  zmq::context_t context;
  zmq::socket_t router;  // of the socket's thread, once there is one
  std::string address;
  RequestQueue requests;
  ReplyList replies;
  std::atomic<bool> reading = true;  // requests are taken from the socket
  std::atomic<bool> ended = false;   // no reply will be pushed any more
  std::vector<std::jthread> handling;
  std::jthread socket;

  Impl(Handler the_handler, int the_threads)
      : handler(std::move(the_handler)), threads(the_threads) {}

  void HandleRequests() {
    while (std::optional<WaitingRequest> request = requests.Pop()) {
      const std::string bytes = Serialize(Answer(handler, request->body));
      zmq::multipart_t reply;
      reply.add(std::move(request->sender));
      reply.addmem(nullptr, 0);
      reply.addmem(bytes.data(), bytes.size());
      replies.Push(std::move(reply));
    }
  }

  void ServeSocket() {
    while (!ended) {
      const bool may_read = reading && requests.HasRoom();
      std::array<zmq_pollitem_t, 2> items = {
          {{nullptr, replies.descriptor(), ZMQ_POLLIN, 0}, {router.handle(), 0, ZMQ_POLLIN, 0}}};
      if (zmq_poll(items.data(), may_read ? 2 : 1, -1) < 0 && zmq_errno() != EINTR) {
        throw zmq::error_t();
      }
      SendReplies();
      if (may_read) ReadRequests();
    }
    SendReplies();
  }

  void SendReplies() {
    for (zmq::multipart_t& reply : replies.TakeAll()) {
      reply.send(router, static_cast<int>(zmq::send_flags::dontwait));
    }
  }

  // Those that are there, while there is room; not so many that replies would wait.
  void ReadRequests() {
    zmq::multipart_t message;
    for (int i = 0; i < 100 && requests.HasRoom(); ++i) {
      if (!message.recv(router, static_cast<int>(zmq::recv_flags::dontwait))) return;
      // [sender, empty, Request]. Whoever sends another shape would not understand a reply either.
      if (message.size() != 3 || !message.at(1).empty()) {
        spdlog::warn("rpc: dropped a message of {} frames, which is no request", message.size());
        continue;
      }
      WaitingRequest request;
      request.sender = message.pop();
      request.body = message.remove();
      requests.Push(std::move(request));
    }
  }
};

RpcServer::RpcServer(const std::string& address, Handler handler, int threads)
    : impl_(std::make_unique<Impl>(std::move(handler), threads)) {
  CheckRpcAddress(address);
  impl_->router = MakeRpcSocket(impl_->context, zmq::socket_type::router, address);
  // The last replies before Stop() are given so long to leave.
  impl_->router.set(zmq::sockopt::linger, 1'000);
  try {
    impl_->router.bind(address);
  } catch (const zmq::error_t& error) {
    ThrowBindError(address, error.num());
  }
  impl_->address = impl_->router.get(zmq::sockopt::last_endpoint);
}

RpcServer::~RpcServer() { Stop(); }

std::string RpcServer::address() const { return impl_->address; }

void RpcServer::Start() {
  for (int i = 0; i < impl_->threads; ++i) {
    impl_->handling.emplace_back([this] { impl_->HandleRequests(); });
  }
  impl_->socket = std::jthread([this] { impl_->ServeSocket(); });
}

void RpcServer::Stop() {
  impl_->reading = false;
  impl_->requests.Close();
  impl_->handling.clear();  // joins
  impl_->ended = true;
  impl_->replies.Wake();
  if (impl_->socket.joinable()) impl_->socket.join();
  impl_->router.close();
  impl_->context.close();  // waits until the last replies have left, and the port is free
}

}  // namespace fr
