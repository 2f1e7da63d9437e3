#include "worker/telemetry/timeline.h"

#include <numeric>

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "common/base/clock.h"

namespace fr {
namespace {

double Of(const PhaseTimes& times, Phase phase) { return times[static_cast<std::size_t>(phase)]; }

double Sum(const PhaseTimes& times) { return std::accumulate(times.begin(), times.end(), 0.0); }

// Until the clock has moved on by so much.
void Spend(std::int64_t nanoseconds) {
  const std::int64_t until = SteadyNanos() + nanoseconds;
  while (SteadyNanos() < until) continue;
}

TEST(Timeline, EveryMomentBelongsToOnePhase) {
  const std::int64_t began = SteadyNanos();
  Timeline timeline;
  timeline.Enter(Phase::kForward);
  Spend(2'000'000);
  timeline.Enter(Phase::kHead);
  Spend(1'000'000);
  timeline.Enter(Phase::kForward);
  Spend(1'000'000);
  const PhaseTimes times = timeline.TakeTimes();
  const double all_ms = static_cast<double>(SteadyNanos() - began) / 1e6;
  EXPECT_GE(Of(times, Phase::kForward), 3);
  EXPECT_GE(Of(times, Phase::kHead), 1);
  EXPECT_EQ(Of(times, Phase::kBackward), 0);
  EXPECT_LE(Sum(times), all_ms);
  EXPECT_LT(Of(timeline.TakeTimes(), Phase::kHead), 1);  // what was taken is gone
}

// What the head waits for others is no work of the head; what the communication thread does while
// the backward pass runs takes nothing from it.
TEST(Timeline, WaitingForOthersIsCommunication) {
  Timeline timeline;
  timeline.Enter(Phase::kHead);
  const std::int64_t begin = SteadyNanos();
  Spend(2'000'000);
  timeline.AddCollective({"all-reduce", begin, begin + 1'500'000, 64, false});
  timeline.Enter(Phase::kBackward);
  Spend(1'000'000);
  timeline.AddCollective({"all-reduce", begin, begin + 9'000'000, 64, true});
  const PhaseTimes times = timeline.TakeTimes();
  EXPECT_DOUBLE_EQ(Of(times, Phase::kCommunication), 1.5);
  EXPECT_GE(Of(times, Phase::kHead), 0.5);
  EXPECT_GE(Of(times, Phase::kBackward), 1);
}

TEST(Timeline, ATraceHasTheSpansOfItsTimeAlone) {
  Timeline timeline;
  timeline.AddCollective({"before", 1, 2, 0, false});
  timeline.Enter(Phase::kForward);
  timeline.StartTrace();
  timeline.AddCollective({"all-gather", 5, 9, 12, true});
  timeline.Enter(Phase::kBackward);
  std::vector<Span> spans = timeline.StopTrace();
  timeline.AddCollective({"after", 1, 2, 0, false});
  ASSERT_EQ(spans.size(), 3U);
  EXPECT_EQ(spans[0].name, "all-gather");
  EXPECT_EQ(spans[1].name, "forward");
  EXPECT_EQ(spans[2].name, "backward");
  EXPECT_TRUE(timeline.StopTrace().empty());
}

// By Chrome's "Trace Event Format": complete events with microseconds, a process a rank.
TEST(Timeline, TheTraceIsWhatPerfettoReads) {
  const std::string first =
      TraceEvents({{"forward", 2'000'000, 5'500'000, 0, false}}, 0, 1'000'000);
  const std::string second = TraceEvents({{"all-reduce", 9000, 10'000, 256, true}}, 1, 8000);
  const nlohmann::json trace = nlohmann::json::parse(JoinTraces({first, second}));
  std::vector<nlohmann::json> complete;
  std::vector<std::string> names;
  for (const nlohmann::json& event : trace.at("traceEvents")) {
    if (event.at("ph") == "X") complete.push_back(event);
    if (event.at("ph") == "M") names.push_back(event.at("args").at("name"));
  }
  EXPECT_EQ(names, (std::vector<std::string>{"rank 0", "training", "communication", "rank 1",
                                             "training", "communication"}));
  ASSERT_EQ(complete.size(), 2U);
  EXPECT_EQ(complete[0].at("name"), "forward");
  EXPECT_EQ(complete[0].at("ts"), 1000.0);
  EXPECT_EQ(complete[0].at("dur"), 3500.0);
  EXPECT_EQ(complete[0].at("pid"), 0);
  EXPECT_FALSE(complete[0].contains("args"));
  EXPECT_EQ(complete[1].at("args").at("bytes"), 256);
  EXPECT_EQ(complete[1].at("pid"), 1);
  EXPECT_NE(complete[1].at("tid"), complete[0].at("tid"));
}

}  // namespace
}  // namespace fr
