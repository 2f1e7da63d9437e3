#include "worker/telemetry/event_file.h"

#include <algorithm>
#include <csignal>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include "common/base/file.h"
#include "common/base/temporary_directory.h"
#include "tests/python.h"

namespace fr {
namespace {

namespace fs = std::filesystem;
using namespace std::string_literals;

MetricPoint Point(const std::string& name, std::int64_t step, double value,
                  std::int64_t time_ms = 1500) {
  MetricPoint point;
  point.set_name(name);
  point.set_step(step);
  point.set_value(value);
  point.set_time_ms(time_ms);
  return point;
}

class EventFileTest : public testing::Test {
 protected:
  fs::path events() const { return directory_.path() / "tensorboard"; }

  std::vector<fs::path> Files() const {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(events())) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    return files;
  }

  // What TensorBoard's own reader finds: "name step value time" of every point, a line each.
  std::string ReadByTensorBoard() const {
    return RunPython(directory_.path(), R"(
import logging
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
logging.disable(logging.WARNING)
events = EventAccumulator("tensorboard", size_guidance={"scalars": 0})
events.Reload()
for name in sorted(events.Tags()["scalars"]):
    for event in events.Scalars(name):
        print(name, event.step, round(event.value, 6), event.wall_time)
)");
  }

  TemporaryDirectory directory_;
};

// Length, its checksum, the event, its checksum; computed by hand from the formats' descriptions.
TEST_F(EventFileTest, ARecordIsTheseBytes) {
  const std::string expected =
      "\x20\0\0\0\0\0\0\0"s
      "\x29\xed\xa9\x50"s
      "\x09\0\0\0\0\0\0\xf8\x3f"s  // wall_time 1.5
      "\x10\x07"s                  // step 7
      "\x2a\x13\x0a\x11"s          // summary, value
      "\x0a\x0atrain/loss"s        // tag
      "\x15\0\0\x80\x3e"s          // simple_value 0.25
      "\xf4\x98\x5d\x1a"s;
  EventFile file(events(), 0);
  const std::string before = ReadFile(Files().front());
  file.Add({Point("train/loss", 7, 0.25)});
  EXPECT_EQ(ReadFile(Files().front()).substr(before.size()), expected);
}

TEST_F(EventFileTest, TensorBoardReadsThePointsAsTheyCome) {
  EventFile file(events(), 0);
  file.Add({Point("train/loss", 10, 2.5), Point("train/lr", 10, 0.1, 1501)});
  EXPECT_EQ(ReadByTensorBoard(), "train/loss 10 2.5 1.5\ntrain/lr 10 0.1 1.5\n");
  file.Add({});
  file.Add({Point("train/loss", 0, -1, 2000), Point("train/loss", 20, 1.25, 3000)});
  EXPECT_EQ(ReadByTensorBoard(),
            "train/loss 10 2.5 1.5\ntrain/loss 0 -1.0 2.0\ntrain/loss 20 1.25 3.0\n"
            "train/lr 10 0.1 1.5\n");
}

// Killed after step 30 and continued from the checkpoint of step 20, all within one second: of the
// steps that are trained again TensorBoard shows what the later start says, once.
TEST_F(EventFileTest, ALaterStartReplacesTheStepsItTrainsAgain) {
  EventFile(events(), 0)
      .Add({Point("train/loss", 10, 3), Point("train/loss", 20, 2),
            Point("val/lfw/accuracy", 20, 0.5), Point("train/loss", 30, 1)});
  EventFile(events(), 21).Add({Point("train/loss", 25, 1.5)});
  EXPECT_EQ(Files().size(), 2U);
  EXPECT_EQ(ReadByTensorBoard(),
            "train/loss 10 3.0 1.5\ntrain/loss 20 2.0 1.5\ntrain/loss 25 1.5 1.5\n"
            "val/lfw/accuracy 20 0.5 1.5\n");
}

// TensorBoard takes files in the order of their names, so a host whose clock is behind must not
// write a name that sorts before what is there.
TEST_F(EventFileTest, ALaterStartHasTheLaterName) {
  fs::create_directories(events());
  const fs::path ahead = events() / "events.out.tfevents.4000000000.elsewhere.1";
  std::ofstream(ahead).close();
  std::ofstream(events() / "events.out.tfevents.notes").close();
  std::ofstream(events() / "a note").close();
  const EventFile file(events(), 0);
  const std::vector<fs::path> files = Files();
  const auto made = std::find_if(files.begin(), files.end(),
                                 [](const fs::path& path) { return fs::file_size(path) > 0; });
  ASSERT_NE(made, files.end());
  EXPECT_GT(*made, ahead);
}

// Values that a diverging run has.
TEST_F(EventFileTest, WhatIsNotFiniteIsShownAsSuch) {
  EventFile file(events(), 0);
  file.Add({Point("train/loss", 1, std::numeric_limits<double>::infinity()),
            Point("train/loss", 2, std::nan(""))});
  EXPECT_EQ(ReadByTensorBoard(), "train/loss 1 inf 1.5\ntrain/loss 2 nan 1.5\n");
}

// The disk is full in the middle of a record, and later is not: what was written stays readable,
// and points come again.
TEST_F(EventFileTest, AFullDiskCostsPointsAndNothingElse) {
  EventFile file(events(), 0);
  file.Add({Point("train/loss", 1, 3)});
  const auto size = fs::file_size(Files().front());
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit limit{};
  getrlimit(RLIMIT_FSIZE, &limit);
  const rlimit full{size + 20, limit.rlim_max};
  setrlimit(RLIMIT_FSIZE, &full);
  file.Add({Point("train/loss", 2, 2)});
  file.Add({Point("train/loss", 3, 2)});
  setrlimit(RLIMIT_FSIZE, &limit);
  EXPECT_EQ(fs::file_size(Files().front()), size);
  file.Add({Point("train/loss", 4, 1)});
  EXPECT_EQ(ReadByTensorBoard(), "train/loss 1 3.0 1.5\ntrain/loss 4 1.0 1.5\n");
}

TEST_F(EventFileTest, ADirectoryThatCannotBeMadeEndsNothing) {
  std::ofstream(events()) << "a file";
  EventFile file(events(), 0);
  file.Add({Point("train/loss", 1, 3)});
  fs::remove(events());
  file.Add({Point("train/loss", 2, 2)});
  EXPECT_EQ(ReadByTensorBoard(), "train/loss 2 2.0 1.5\n");
}

}  // namespace
}  // namespace fr
