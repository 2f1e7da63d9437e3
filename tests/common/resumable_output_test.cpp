#include "common/base/resumable_output.h"

#include <filesystem>
#include <string>

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/temporary_directory.h"

namespace fr {
namespace {

using Start = ResumableOutput::Start;

class ResumableOutputTest : public testing::Test {
 protected:
  std::filesystem::path path(const std::string& name) const { return directory_.path() / name; }

  ResumableOptions Options(const std::string& fingerprint = "input 1") const {
    return {
        path("journal"), {{path("a")}, {path("scratch"), false}, {path("b")}}, {fingerprint, 100}};
  }

  // Something was noted at place 7, and something more written that was not.
  void StopInTheMiddle() const {
    ResumableOutput out(Options());
    out.Append(0, "one ");
    out.Append(1, "x");
    out.Checkpoint(7);
    out.Append(0, std::string(200, '?'));
    out.FlushedPath(0);
  }

  void Tear(const std::string& name, const std::string& more) const {
    WriteFileAtomically(path(name), ReadFile(path(name)) + more);
  }

  TemporaryDirectory directory_;
};

TEST_F(ResumableOutputTest, FilesAreThereWhenTheyAreWhole) {
  ResumableOutput out(Options());
  EXPECT_EQ(out.start(), Start::kAnew);
  EXPECT_EQ(out.place(), 0);
  out.Append(0, "one");
  out.Append(2, "two");
  EXPECT_FALSE(out.CheckpointDue());
  out.Append(2, std::string(100, '.'));
  EXPECT_TRUE(out.CheckpointDue());
  out.Checkpoint(1);
  EXPECT_FALSE(out.CheckpointDue());
  EXPECT_FALSE(std::filesystem::exists(path("a")));
  out.Finish(2);
  EXPECT_EQ(ReadFile(path("a")), "one");
  EXPECT_EQ(ReadFile(path("b")).size(), 103U);
  // Nothing else is left.
  const std::filesystem::directory_iterator files(directory_.path());
  EXPECT_EQ(std::distance(begin(files), end(files)), 2);
}

TEST_F(ResumableOutputTest, GoesOnAtTheLastCheckpoint) {
  StopInTheMiddle();
  ResumableOutput out(Options());
  EXPECT_EQ(out.start(), Start::kResumed);
  EXPECT_EQ(out.place(), 7);
  EXPECT_EQ(out.size(0), 4U);
  EXPECT_EQ(out.ReadBack(1), "x");
  out.Append(0, "two");
  out.Finish(8);
  EXPECT_EQ(ReadFile(path("a")), "one two");
}

TEST_F(ResumableOutputTest, OtherInputStartsAnewAndSaysSo) {
  StopInTheMiddle();
  ResumableOutput out(Options("input 2"));
  EXPECT_EQ(out.start(), Start::kAnewAsInputDiffers);
  std::string said;
  WorkReport report;
  report.say = [&said](const std::string& line) { said = line; };
  out.TellStart(report);
  EXPECT_NE(said, "");
  EXPECT_EQ(out.place(), 0);
  out.Append(0, "other");
  out.Finish(1);
  EXPECT_EQ(ReadFile(path("a")), "other");
}

// Whatever the crash did to the journal's end, the last whole line counts; and a partial file that
// is shorter than its line says (the disk lied) is not built upon.
TEST_F(ResumableOutputTest, ATornJournalIsReadUpToTheTear) {
  StopInTheMiddle();
  Tear("journal", "9 0 4 1");
  {
    ResumableOutput out(Options());
    EXPECT_EQ(out.place(), 7);
    out.Append(0, "two ");
    out.Checkpoint(8);
  }
  Tear("journal", "9 0 4 1 0\t0123456789abcdef\n");
  ResumableOutput out(Options());
  EXPECT_EQ(out.place(), 8);
  EXPECT_EQ(out.ReadBack(0), "one two ");
}

TEST_F(ResumableOutputTest, AShorterFileThanItsCheckpointStartsAnew) {
  StopInTheMiddle();
  std::filesystem::resize_file(path("a.partial"), 3);
  ResumableOutput out(Options());
  EXPECT_EQ(out.start(), Start::kAnew);
  EXPECT_EQ(out.size(0), 0U);
}

// Stopped between two renames: here by a directory that is in the way of the last.
TEST_F(ResumableOutputTest, AnEndThatWasCutOffIsMadeUpFor) {
  std::filesystem::create_directories(path("b") / "in the way");
  {
    ResumableOutput out(Options());
    out.Append(0, "one");
    out.Append(2, "two");
    EXPECT_THROW(out.Finish(2), Error);
  }
  EXPECT_TRUE(std::filesystem::exists(path("a")));
  std::filesystem::remove_all(path("b"));
  const ResumableOutput out(Options());
  EXPECT_EQ(out.start(), Start::kComplete);
  EXPECT_EQ(out.place(), 2);
  EXPECT_EQ(ReadFile(path("a")) + ReadFile(path("b")), "onetwo");
  EXPECT_FALSE(std::filesystem::exists(path("journal")));
  EXPECT_FALSE(std::filesystem::exists(path("scratch.partial")));
}

TEST_F(ResumableOutputTest, TwoWritersDoNotMeet) {
  const ResumableOutput out(Options());
  EXPECT_THROW(ResumableOutput{Options()}, Error);
}

TEST_F(ResumableOutputTest, WithoutAFingerprintNothingIsResumed) {
  {
    ResumableOutput out(Options(""));
    out.Append(0, "one");
    out.Checkpoint(1);
  }
  EXPECT_NE(ResumableOutput(Options("")).start(), Start::kResumed);
}

// A full disk (as /dev/full is one) is an error with a name, never half a file under its name.
TEST_F(ResumableOutputTest, AFullDiskIsNamed) {
  std::filesystem::create_symlink("/dev/full", path("a.partial"));
  try {
    ResumableOutput out(Options());
    out.Append(0, "one");
    out.Checkpoint(1);
    FAIL();
  } catch (const Error& error) {
    EXPECT_TRUE(error.code() == ErrorCode::kResourceExhausted || error.code() == ErrorCode::kIo);
  }
  EXPECT_FALSE(std::filesystem::exists(path("a")));
}

}  // namespace
}  // namespace fr
