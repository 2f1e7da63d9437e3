#include "coordinator/launch/attempt_files.h"

#include <fstream>
#include <thread>

#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/temporary_directory.h"
#include "coordinator/launch/program.h"

namespace fr {
namespace {

// Whether a shell gets the claim for `words`.
bool ShellClaims(const std::filesystem::path& directory, const std::string& words) {
  return RunProgram({"sh", "-c", ClaimScript() + "fr_claim \"$1\" \"$2\"", "sh", directory.string(),
                     words})
      .ok();
}

// The first has it; nobody after.
TEST(Claim, IsGivenOnce) {
  const TemporaryDirectory directory;
  EXPECT_TRUE(ShellClaims(directory.path(), "71 12"));
  EXPECT_FALSE(ShellClaims(directory.path(), "72 13"));
  EXPECT_EQ(ReadFile(directory.path() / kClaimFile), "71 12\n");
  EXPECT_EQ(ClaimVoid(directory.path()), "71 12");
  EXPECT_EQ(ClaimVoid(directory.path()), "71 12");
}

// Once it is void it stays so, and nothing can start.
TEST(Claim, OfAVoidAttemptIsRefused) {
  const TemporaryDirectory directory;
  EXPECT_EQ(ClaimVoid(directory.path()), std::nullopt);
  EXPECT_FALSE(ShellClaims(directory.path(), "71 12"));
  EXPECT_EQ(ClaimVoid(directory.path()), std::nullopt);
}

// A coordinator that died before it made the directory.
TEST(Claim, IsMadeVoidWithoutADirectory) {
  const TemporaryDirectory directory;
  EXPECT_EQ(ClaimVoid(directory.path() / "jobs" / "attempt-1"), std::nullopt);
  EXPECT_FALSE(ShellClaims(directory.path() / "jobs" / "attempt-1", "71 12"));
  EXPECT_FALSE(ShellClaims(directory.path() / "gone", "71 12"));
}

// A shell and a coordinator at the same time: one of them has it, both know which, and nothing
// else is left lying about.
TEST(Claim, HasOneWinnerInARace) {
  for (int round = 0; round < 30; ++round) {
    const TemporaryDirectory directory;
    bool shell_won = false;
    std::thread shell([&] { shell_won = ShellClaims(directory.path(), "71 12"); });
    const std::optional<std::string> owner = ClaimVoid(directory.path());
    shell.join();
    EXPECT_EQ(owner.has_value(), shell_won);
    int files = 0;
    for ([[maybe_unused]] const auto& entry :
         std::filesystem::directory_iterator(directory.path())) {
      ++files;
    }
    EXPECT_EQ(files, 1);
  }
}

// A file system that does not answer decides nothing.
TEST(Claim, ThatCannotBeMadeIsNotVoid) {
  try {
    ClaimVoid("/proc/none/attempt");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnavailable);
  }
}

TEST(AttemptFiles, AreReadWhereTheyAre) {
  const TemporaryDirectory directory;
  EXPECT_EQ(ExitStatus(directory.path()), std::nullopt);
  EXPECT_EQ(LogTail(directory.path(), 3), "");
  std::ofstream(directory.path() / kExitStatusFile) << "137\n";
  std::ofstream(directory.path() / kLogFile) << "out\n------\n\nerr\n";
  EXPECT_EQ(ExitStatus(directory.path()), 137);
  EXPECT_EQ(LogTail(directory.path(), 3), "out\nerr");
  EXPECT_EQ(LogTail(directory.path(), 1), "err");
}

// What a worker said, not what mpirun says about it, unless nobody else said anything.
TEST(AttemptFiles, LetWorkersSpeakFirst) {
  const TemporaryDirectory directory;
  const std::string frame(74, '-');
  const std::string mpirun =
      frame + "\nPrimary job  terminated normally, but 1 process returned\n" + frame + "\n";
  std::ofstream(directory.path() / kLogFile) << mpirun;
  EXPECT_EQ(LogTail(directory.path(), 3),
            "Primary job  terminated normally, but 1 process returned");
  std::ofstream(directory.path() / kLogFile)
      << "[vm:01130] plm:rsh: Warning: setpgid(1136,1136) failed in parent with "
         "errno=Permission denied(13)\n"
      << "rank 1: disk full\n"
      << mpirun;
  EXPECT_EQ(LogTail(directory.path(), 3), "rank 1: disk full");
}

}  // namespace
}  // namespace fr
