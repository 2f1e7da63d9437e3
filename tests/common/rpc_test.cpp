#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <latch>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>
#include <zmq.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/rpc/client.h"
#include "common/rpc/server.h"

namespace fr {
namespace {

// A server on a free port that has been started.
class RunningServer : public RpcServer {
 public:
  explicit RunningServer(Handler handler, int threads = 4)
      : RpcServer("tcp://127.0.0.1:*", std::move(handler), threads) {
    Start();
  }
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

// A request that only the calling thread can mean: its number comes back as the version.
Request Numbered(std::int64_t number) {
  Request request;
  request.mutable_list_jobs()->set_before(number);
  return request;
}

Reply Echo(const Request& request) {
  Reply reply;
  reply.mutable_list_jobs()->add_jobs()->set_number(request.list_jobs().before());
  return reply;
}

// Eight requests that each wait for the seven others can only end if all are handled at once.
TEST(Rpc, RequestsAreHandledAtATime) {
  constexpr int kClients = 8;
  std::latch all_here(kClients);
  RunningServer server(
      [&](const Request& request) {
        all_here.arrive_and_wait();
        return Echo(request);
      },
      kClients);
  std::vector<std::jthread> clients;
  std::atomic<int> right = 0;
  for (int i = 0; i < kClients; ++i) {
    clients.emplace_back([&, i] {
      RpcClient client(server.address());
      const Reply reply = client.Call(Numbered(i), 60'000);
      if (reply.list_jobs().jobs(0).number() == i) ++right;
    });
  }
  clients.clear();
  EXPECT_EQ(right, kClients);
}

// More clients than threads, each with many requests: everyone gets the replies to their own.
TEST(Rpc, EveryClientGetsItsOwnReplies) {
  RunningServer server(Echo, 3);
  std::vector<std::jthread> clients;
  std::atomic<int> right = 0;
  for (int i = 0; i < 10; ++i) {
    clients.emplace_back([&, i] {
      RpcClient client(server.address());
      for (int call = 0; call < 100; ++call) {
        const std::int64_t number = 1000 * i + call;
        const Reply reply = client.Call(Numbered(number), 60'000);
        if (reply.list_jobs().jobs(0).number() == number) ++right;
      }
    });
  }
  clients.clear();
  EXPECT_EQ(right, 1000);
}

// As long as a thread is left, a handler that takes its time delays nobody else.
TEST(Rpc, ASlowRequestHoldsUpNoOther) {
  std::promise<void> release;
  std::latch slow_is_handled(1);
  RunningServer server(
      [&, released = release.get_future().share()](const Request& request) {
        if (request.has_ping()) return Pong(request);
        slow_is_handled.count_down();
        released.wait();
        return Echo(request);
      },
      2);
  std::jthread slow([&] {
    RpcClient client(server.address());
    EXPECT_EQ(client.Call(Numbered(1), 60'000).list_jobs().jobs(0).number(), 1);
  });
  slow_is_handled.wait();
  RpcClient client(server.address());
  for (int i = 0; i < 10; ++i) EXPECT_EQ(client.Call(Ping(), 60'000).ping().version(), "7");
  release.set_value();
}

// A client that may have many requests under way.
zmq::socket_t Dealer(zmq::context_t& context, const std::string& address) {
  zmq::socket_t dealer(context, zmq::socket_type::dealer);
  dealer.set(zmq::sockopt::linger, 0);
  dealer.set(zmq::sockopt::rcvtimeo, 60'000);
  dealer.connect(address);
  return dealer;
}

void Send(zmq::socket_t& dealer, const Request& request) {
  dealer.send(zmq::message_t(), zmq::send_flags::sndmore);
  dealer.send(zmq::buffer(request.SerializeAsString()), zmq::send_flags::none);
}

Reply Receive(zmq::socket_t& dealer) {
  zmq::message_t frame;
  Reply reply;
  const bool received = dealer.recv(frame) && dealer.recv(frame);
  EXPECT_TRUE(received && reply.ParseFromArray(frame.data(), static_cast<int>(frame.size())));
  return reply;
}

// Far more requests than the server holds, from clients that do not wait for replies: the rest
// stays outside until there is room, and nothing is lost.
TEST(Rpc, AFloodIsAnsweredToTheLast) {
  std::promise<void> release;
  RunningServer server(
      [released = release.get_future().share()](const Request& request) {
        released.wait();
        return Echo(request);
      },
      2);
  zmq::context_t context;
  std::vector<zmq::socket_t> dealers;
  constexpr int kDealers = 20;  // each with fewer requests than ZeroMQ drops replies for
  constexpr int kRequests = 200;
  for (int i = 0; i < kDealers; ++i) {
    dealers.push_back(Dealer(context, server.address()));
    for (int number = 0; number < kRequests; ++number) Send(dealers.back(), Numbered(number));
  }
  release.set_value();
  std::int64_t sum = 0;
  for (zmq::socket_t& dealer : dealers) {
    for (int i = 0; i < kRequests; ++i) sum += Receive(dealer).list_jobs().jobs_size();
  }
  EXPECT_EQ(sum, kDealers * kRequests);
}

// A server that stops answers what it is handling. What waits behind it is dropped: its client
// hears nothing and will ask again. The port is free afterwards.
TEST(Rpc, StoppingAnswersWhatIsBeingHandled) {
  std::promise<void> release;
  std::atomic<int> calls = 0;
  RunningServer server(
      [&, released = release.get_future().share()](const Request& request) {
        ++calls;
        calls.notify_all();
        released.wait();
        return Echo(request);
      },
      1);
  const std::string address = server.address();
  zmq::context_t context;
  zmq::socket_t first = Dealer(context, address);
  Send(first, Numbered(5));
  calls.wait(0);
  std::jthread stopping([&] { server.Stop(); });
  RpcClient late(address);
  EXPECT_EQ(CodeOf([&] { late.Call(Numbered(6), 200); }), ErrorCode::kUnavailable);
  release.set_value();
  stopping.join();
  EXPECT_EQ(Receive(first).list_jobs().jobs(0).number(), 5);
  EXPECT_EQ(server.address(), address);
  server.Stop();
  const RpcServer next(address, Pong);
}

// Neither a server that was never started nor an idle one keeps its destructor waiting.
TEST(Rpc, IdleServersEnd) {
  { const RpcServer never_started("tcp://127.0.0.1:*", Pong); }
  RunningServer idle(Pong);
  idle.Stop();
}

}  // namespace
}  // namespace fr
