// The link of a run without a coordinator.

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/temporary_directory.h"
#include "common/store/run_store.h"
#include "worker/telemetry/run_link.h"

namespace fr {
namespace {

class LocalLinkTest : public testing::Test {
 protected:
  LocalLinkTest() { spec_.mutable_checkpoint()->set_keep(2); }

  // A committed checkpoint whose directory exists.
  CheckpointManifest Written(std::int64_t step) const {
    CheckpointManifest manifest;
    manifest.set_step(step);
    manifest.set_directory((directory_.path() / std::to_string(step)).string());
    std::filesystem::create_directories(manifest.directory());
    return manifest;
  }

  std::vector<std::int64_t> StepsToResumeFrom() const {
    const Assignment assignment = MakeLocalLink(spec_, directory_.path().string())->Begin(1);
    std::vector<std::int64_t> steps;
    for (const auto& manifest : assignment.resume_from) steps.push_back(manifest.step());
    return steps;
  }

  JobSpec spec_;
  TemporaryDirectory directory_;
};

// A damaged checkpoint is passed over for the one before: all are handed out.
TEST_F(LocalLinkTest, ANewStartIsGivenEveryCheckpointLatestFirst) {
  EXPECT_TRUE(StepsToResumeFrom().empty());
  {
    const auto link = MakeLocalLink(spec_, directory_.path().string());
    link->Begin(1);
    for (const int step : {10, 20, 30}) link->CommitCheckpoint(Written(step));
  }
  EXPECT_THAT(StepsToResumeFrom(), testing::ElementsAre(30, 20));
  EXPECT_FALSE(std::filesystem::exists(directory_.path() / "10"));
}

// The run was pinned at step 10 while a coordinator kept it, or by hand; the pin holds here, too.
TEST_F(LocalLinkTest, APinnedCheckpointStays) {
  {
    RunStore store(directory_.path() / "store");
    CheckpointManifest pinned = Written(10);
    pinned.set_pinned(true);
    StoreBatch batch;
    batch.PutCheckpoint(1, pinned);
    store.Commit(std::move(batch));
  }
  {
    const auto link = MakeLocalLink(spec_, directory_.path().string());
    link->Begin(1);
    for (const int step : {10, 20, 30, 40}) link->CommitCheckpoint(Written(step));
  }
  EXPECT_THAT(StepsToResumeFrom(), testing::ElementsAre(40, 30, 10));
  EXPECT_TRUE(std::filesystem::exists(directory_.path() / "10"));
}

}  // namespace
}  // namespace fr
