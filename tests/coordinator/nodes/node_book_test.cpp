#include "coordinator/nodes/node_book.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"

namespace fr {
namespace {

using testing::HasSubstr;

constexpr std::int64_t kMinute = 60'000;

NodeFailure Failure(const std::string& job_id, std::int64_t time_ms) {
  NodeFailure failure;
  failure.set_job_id(job_id);
  failure.set_time_ms(time_ms);
  failure.set_reason("rank 2 exited on signal 11");
  return failure;
}

NodeRecord WithFailures(const std::vector<NodeFailure>& failures) {
  NodeRecord node;
  for (const NodeFailure& failure : failures) *node.add_failures() = failure;
  return node;
}

// Three failures within an hour, of two jobs at least: one job that fails three times may well be
// to blame itself.
TEST(ShouldCordon, AsksForFailuresOfSeveralJobsWithinTheTime) {
  const CordonSpec policy;
  const auto cordoned = [&](const std::vector<NodeFailure>& failures) {
    return ShouldCordon(WithFailures(failures), policy, 100 * kMinute);
  };
  EXPECT_FALSE(cordoned({}));
  EXPECT_FALSE(cordoned({Failure("job-1", 90 * kMinute), Failure("job-2", 91 * kMinute)}));
  EXPECT_TRUE(cordoned({Failure("job-1", 90 * kMinute), Failure("job-2", 91 * kMinute),
                        Failure("job-1", 92 * kMinute)}));
  EXPECT_FALSE(cordoned({Failure("job-1", 90 * kMinute), Failure("job-1", 91 * kMinute),
                         Failure("job-1", 92 * kMinute)}));
  EXPECT_FALSE(cordoned({Failure("job-1", 39 * kMinute), Failure("job-2", 91 * kMinute),
                         Failure("job-1", 92 * kMinute)}));
  CordonSpec never;
  never.set_failures(0);
  EXPECT_FALSE(ShouldCordon(
      WithFailures({Failure("job-1", 1), Failure("job-2", 1), Failure("job-3", 1)}), never, 2));
}

class NodeBookTest : public testing::Test {
 protected:
  NodeBookTest() {
    for (const char* name : {"node1", "node2"}) {
      NodeSpec* node = spec_.add_nodes();
      node->set_name(name);
      node->set_slots(8);
    }
  }

  static NodeReport Report(const std::string& name, NodeStatus::Liveness liveness,
                           std::int64_t seen_ms = 1000) {
    NodeReport report;
    report.name = name;
    report.liveness = liveness;
    report.reason = liveness == NodeStatus::DOWN ? "no answer" : "";
    report.seen_ms = seen_ms;
    report.gpus = 4;
    report.memory_bytes = 1 << 30;
    return report;
  }

  CoordinatorSpec spec_;
};

// Workers go only to nodes that have been seen, and stand.
TEST_F(NodeBookTest, ANodeIsOpenWhileItIsUp) {
  NodeBook book(spec_, {});
  EXPECT_FALSE(book.Views()[0].open);
  EXPECT_TRUE(book.Absorb({Report("node1", NodeStatus::UP), Report("node9", NodeStatus::UP)}));
  EXPECT_TRUE(book.Views()[0].open);
  EXPECT_FALSE(book.Views()[1].open);
  EXPECT_FALSE(book.Absorb({Report("node1", NodeStatus::UP, 2000)}));
  EXPECT_TRUE(book.Absorb({Report("node1", NodeStatus::DOWN)}));
  EXPECT_TRUE(book.IsDown("node1"));
  EXPECT_EQ(book.DownReason("node1"), "no answer");
  EXPECT_FALSE(book.Views()[0].open);
}

// A node that has just failed to answer is not tried again before somebody has seen it.
TEST_F(NodeBookTest, ASuspectMustBeSeenAgain) {
  NodeBook book(spec_, {});
  book.Absorb({Report("node1", NodeStatus::UP, 1000)});
  book.Suspect("node1", 1500);
  EXPECT_FALSE(book.Views()[0].open);
  book.Absorb({Report("node1", NodeStatus::UP, 1400)});
  EXPECT_FALSE(book.Views()[0].open);
  book.Absorb({Report("node1", NodeStatus::UP, 1600)});
  EXPECT_TRUE(book.Views()[0].open);
}

// What is configured counts before what is found; a cluster that has lost a part has fewer slots.
TEST_F(NodeBookTest, CapacityIsConfiguredOrFound) {
  spec_.mutable_nodes(1)->set_gpus(2);
  spec_.mutable_nodes(1)->set_memory_gib(0.5);
  NodeBook book(spec_, {});
  NodeReport report = Report("node2", NodeStatus::UP);
  report.usable_slots = 5;
  book.Absorb({Report("node1", NodeStatus::UP), report});
  const std::vector<NodeView> views = book.Views();
  EXPECT_EQ(views[0].gpus, 4);
  EXPECT_EQ(views[0].memory_bytes, 1 << 30);
  EXPECT_EQ(views[0].slots, 8);
  EXPECT_EQ(views[1].gpus, 2);
  EXPECT_EQ(views[1].memory_bytes, 1 << 29);
  EXPECT_EQ(views[1].slots, 5);
}

// What is known of GPUs is shown for those that workers get, be they fewer or more than were found.
TEST_F(NodeBookTest, ShowsTheGpusThatWorkersGet) {
  spec_.mutable_nodes(1)->set_gpus(3);
  NodeBook book(spec_, {});
  EXPECT_EQ(book.Statuses()[0].gpu_list_size(), 0);
  for (const char* name : {"node1", "node2"}) {
    NodeReport report = Report(name, NodeStatus::UP);
    for (const char* model : {"H100", "H100", "A100", "A100"}) {
      report.gpu_list.emplace_back().set_model(model);
    }
    book.Absorb({report});
  }
  const std::vector<NodeStatus> statuses = book.Statuses();
  EXPECT_EQ(statuses[0].gpu_list_size(), 4);
  EXPECT_EQ(statuses[1].gpus(), 3);
  ASSERT_EQ(statuses[1].gpu_list_size(), 3);
  EXPECT_EQ(statuses[1].gpu_list(1).model(), "H100");
  EXPECT_EQ(statuses[1].gpu_list(2).model(), "A100");

  spec_.mutable_nodes(0)->set_gpus(8);
  NodeBook more(spec_, {});
  NodeReport report = Report("node1", NodeStatus::UP);
  report.gpu_list.emplace_back().set_model("H100");
  more.Absorb({report});
  EXPECT_EQ(more.Statuses()[0].gpus(), 8);
  EXPECT_EQ(more.Statuses()[0].gpu_list_size(), 1);
}

// Drained and cordoned nodes are remembered; one undrain ends both and forgets the failures.
TEST_F(NodeBookTest, DrainAndCordonLastUntilUndrained) {
  NodeBook book(spec_, {});
  book.Absorb({Report("node1", NodeStatus::UP), Report("node2", NodeStatus::UP)});
  book.Set(book.Drained("node1", "new disks", 5));
  for (const auto& failure : {Failure("job-1", 10), Failure("job-2", 11), Failure("job-2", 12)}) {
    book.Set(book.Failed("node2", failure));
  }
  EXPECT_FALSE(book.Views()[0].open);
  EXPECT_FALSE(book.Views()[1].open);
  EXPECT_THAT(book.Statuses()[1].record().cordon_reason(),
              HasSubstr("3 failures within 60 min, the last of job-2: rank 2 exited on signal 11"));

  NodeBook later(spec_, {book.Statuses()[0].record(), book.Statuses()[1].record()});
  later.Absorb({Report("node1", NodeStatus::UP), Report("node2", NodeStatus::UP)});
  EXPECT_EQ(later.Statuses()[0].record().drain_reason(), "new disks");
  EXPECT_FALSE(later.Views()[1].open);
  later.Set(later.Undrained("node1"));
  later.Set(later.Undrained("node2"));
  EXPECT_TRUE(later.Views()[0].open);
  EXPECT_TRUE(later.Views()[1].open);
  EXPECT_EQ(later.Statuses()[1].record().failures_size(), 0);
}

TEST_F(NodeBookTest, AnUnknownNameIsNamedWithThoseThereAre) {
  const NodeBook book(spec_, {});
  try {
    book.Drained("node3", "", 0);
    FAIL() << "there is no such node";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNotFound);
    EXPECT_THAT(error.what(), HasSubstr("there are node1, node2"));
  }
  EXPECT_FALSE(book.Failed("node3", Failure("job-1", 1)).has_name());
}

}  // namespace
}  // namespace fr
