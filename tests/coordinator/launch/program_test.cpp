#include "coordinator/launch/program.h"

#include <csignal>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "tests/coordinator/wait_for.h"

namespace fr {
namespace {

// Both outputs and the exit status come back, each by itself.
TEST(RunProgram, ReturnsWhatTheProgramSaid) {
  const ProgramResult result = RunProgram({"sh", "-c", "echo out; echo err >&2; exit 7"});
  EXPECT_EQ(result.exit_status, 7);
  EXPECT_EQ(result.output, "out\n");
  EXPECT_EQ(result.error, "err\n");
  EXPECT_FALSE(result.ok());
  EXPECT_FALSE(result.timed_out);
}

// No shell looks at the words.
TEST(RunProgram, HandsOverWordsAsTheyAre) {
  const ProgramResult result = RunProgram({"printf", "%s|", "a b", "$HOME", "`id`", "*"});
  EXPECT_TRUE(result.ok());
  EXPECT_EQ(result.output, "a b|$HOME|`id`|*|");
}

// More than pipes hold, both ways.
TEST(RunProgram, PassesLargeInputAndOutput) {
  const std::string text(3 << 20, 'x');
  const ProgramResult result = RunProgram({"cat"}, {.input = text});
  EXPECT_EQ(result.output, text);
  EXPECT_FALSE(result.output_cut);
}

// A program that prints for ever does not fill our memory.
TEST(RunProgram, KeepsNoMoreOutputThanItMay) {
  const ProgramResult result =
      RunProgram({"sh", "-c", "head -c 1000000 /dev/zero"}, {.max_output_bytes = 1000});
  EXPECT_TRUE(result.ok());
  EXPECT_EQ(result.output.size(), 1000U);
  EXPECT_TRUE(result.output_cut);
}

// The program and what it started, though it will not listen.
TEST(RunProgram, KillsWhatTakesTooLong) {
  const ProgramOptions options = {.timeout_ms = 300};
  const ProgramResult result =
      RunProgram({"sh", "-c", "trap '' TERM; sleep 600 & echo $!; wait"}, options);
  EXPECT_TRUE(result.timed_out);
  EXPECT_EQ(result.exit_status, 128 + SIGKILL);
  EXPECT_EQ(FailureText("sh", result, options),
            "sh did not end within 0.3 s: " + result.output.substr(0, result.output.size() - 1));
  const pid_t child = std::stoi(result.output);
  EXPECT_TRUE(WaitFor([&] { return kill(child, 0) != 0; }));
}

// ssh leaves a process behind that keeps a shared connection, with our pipes in its hands.
TEST(RunProgram, DoesNotWaitForTheBackground) {
  const ProgramResult result =
      RunProgram({"sh", "-c", "sleep 600 & echo $!"}, {.timeout_ms = 100'000});
  EXPECT_TRUE(result.ok());
  EXPECT_EQ(kill(std::stoi(result.output), SIGKILL), 0);
}

// A program that is missing is told from one that fails.
TEST(RunProgram, NamesAProgramThatIsNotThere) {
  try {
    RunProgram({"fr-no-such-program"});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNotFound);
    EXPECT_THAT(error.what(), testing::HasSubstr("fr-no-such-program"));
  }
}

// The last line has the cause; some programs say it on standard output.
TEST(FailureText, QuotesTheLastWords) {
  ProgramResult result;
  EXPECT_EQ(FailureText("sbatch", result), "");
  result.exit_status = 1;
  EXPECT_EQ(FailureText("sbatch", result), "sbatch ended with exit status 1");
  result.output = "no\n\n";
  EXPECT_EQ(FailureText("sbatch", result), "sbatch ended with exit status 1: no");
  result.error = "warning\nInvalid partition\n";
  EXPECT_EQ(FailureText("sbatch", result), "sbatch ended with exit status 1: Invalid partition");
}

}  // namespace
}  // namespace fr
