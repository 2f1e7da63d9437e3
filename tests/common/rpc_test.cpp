#include <functional>
#include <memory>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <zmq.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/rpc/client.h"
#include "common/rpc/server.h"

namespace fr {
namespace {

// A server on a free port, serving from a thread of its own.
class RunningServer {
 public:
  explicit RunningServer(RpcServer::Handler handler)
      : server_("tcp://127.0.0.1:*", std::move(handler)),
        thread_([this](const std::stop_token& stop) {
          while (!stop.stop_requested()) server_.Serve(20);
        }) {}
  std::string address() const { return server_.address(); }

 private:
  RpcServer server_;
  std::jthread thread_;
};

Reply Pong(const Request&) {
  Reply reply;
  reply.mutable_ping()->set_version("7");
  return reply;
}

Request Ping() {
  Request request;
  request.mutable_ping();
  return request;
}

ErrorCode CodeOf(const std::function<void()>& call, std::string* message = nullptr) {
  try {
    call();
  } catch (const Error& error) {
    if (message != nullptr) *message = error.what();
    return error.code();
  }
  return ErrorCode{};
}

TEST(Rpc, ARequestHasItsReply) {
  const RunningServer server(Pong);
  RpcClient client(server.address());
  for (int i = 0; i < 3; ++i) EXPECT_EQ(client.Call(Ping(), 10'000).ping().version(), "7");
}

// Code and message of an error are those that the handler threw; other exceptions are ours to hide.
TEST(Rpc, ErrorsTravel) {
  const RunningServer server([](const Request& request) -> Reply {
    if (request.has_ping()) throw Error(ErrorCode::kNotFound, "no such thing");
    throw std::runtime_error("secret");
  });
  RpcClient client(server.address());
  std::string message;
  EXPECT_EQ(CodeOf([&] { client.Call(Ping(), 10'000); }, &message), ErrorCode::kNotFound);
  EXPECT_EQ(message, "no such thing");
  Request other;
  other.mutable_list_jobs();
  EXPECT_EQ(CodeOf([&] { client.Call(other, 10'000); }), ErrorCode::kInternal);
}

TEST(Rpc, AnAbsentServerIsNamed) {
  RpcClient client("tcp://127.0.0.1:1");
  std::string message;
  EXPECT_EQ(CodeOf([&] { client.Call(Ping(), 50); }, &message), ErrorCode::kUnavailable);
  EXPECT_THAT(message, testing::HasSubstr("tcp://127.0.0.1:1"));
}

TEST(Rpc, AddressesAreChecked) {
  for (const char* address : {"", "127.0.0.1:7070", "tcp://", "ipc:///tmp/x", "tcp://host"}) {
    EXPECT_EQ(CodeOf([&] { RpcClient client(address); }), ErrorCode::kInvalidArgument) << address;
    EXPECT_EQ(CodeOf([&] { RpcServer server(address, Pong); }), ErrorCode::kInvalidArgument)
        << address;
  }
  const RunningServer server(Pong);
  EXPECT_EQ(CodeOf([&] { RpcServer second(server.address(), Pong); }), ErrorCode::kUnavailable);
}

// Whatever arrives, the next request is answered.
TEST(Rpc, GarbageLeavesTheServerStanding) {
  const RunningServer server(Pong);
  zmq::context_t context;
  zmq::socket_t dealer(context, zmq::socket_type::dealer);
  dealer.set(zmq::sockopt::linger, 0);
  dealer.connect(server.address());
  for (const std::string frame : {"", "x", "\xff\xff\xff\xff\xff", "\x08"}) {
    dealer.send(zmq::buffer(frame), zmq::send_flags::none);
    dealer.send(zmq::buffer(std::string()), zmq::send_flags::sndmore);
    dealer.send(zmq::buffer(frame), zmq::send_flags::none);
    for (int i = 0; i < 5; ++i) {
      dealer.send(zmq::buffer(frame), i < 4 ? zmq::send_flags::sndmore : zmq::send_flags::none);
    }
  }
  RpcClient client(server.address());
  EXPECT_EQ(client.Call(Ping(), 10'000).ping().version(), "7");
}

}  // namespace
}  // namespace fr
