#include "common/base/fail_point.h"

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include <gtest/gtest.h>

#include "common/base/temporary_directory.h"

namespace fr {
namespace {

// The points' environment is read once a process, so each case has a process of its own, which
// begins the test anew.
class FailPointDeathTest : public testing::Test {
 protected:
  FailPointDeathTest() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }

  // Reaches the points of `names` in turn, with the given environment, and ends as a success.
  [[noreturn]] static void Reach(const char* variable, const std::string& value,
                                 std::initializer_list<const char*> names) {
    setenv(variable, value.c_str(), 1);
    for (const char* name : names) ReachFailPoint(name);
    std::exit(0);
  }
};

TEST_F(FailPointDeathTest, KillsWhereItIsTold) {
  EXPECT_EXIT(Reach("FR_FAIL_POINT", "submit: before commit", {"other", "submit: before commit"}),
              testing::KilledBySignal(SIGKILL), "killed at the fail point 'submit: before commit'");
  EXPECT_EXIT(Reach("FR_FAIL_POINT", "submit: before commit", {"other", "submit"}),
              testing::ExitedWithCode(0), "");
}

TEST_F(FailPointDeathTest, KillsAtTheHitItIsTold) {
  EXPECT_EXIT(Reach("FR_FAIL_POINT", "a: b:3", {"a: b", "a: b"}), testing::ExitedWithCode(0), "");
  EXPECT_EXIT(Reach("FR_FAIL_POINT", "a: b:3", {"a: b", "a", "a: b", "a: b"}),
              testing::KilledBySignal(SIGKILL), "'a: b'");
}

TEST_F(FailPointDeathTest, ListsEveryPointOnce) {
  const TemporaryDirectory directory;
  setenv("FR_TEST_LIST", (directory.path() / "list").c_str(), 0);
  EXPECT_EXIT(Reach("FR_FAIL_POINT_LIST", std::getenv("FR_TEST_LIST"), {"b: 1", "a", "b: 1"}),
              testing::ExitedWithCode(0), "");
  std::ifstream file(std::getenv("FR_TEST_LIST"));
  const std::string text(std::istreambuf_iterator<char>(file), {});
  EXPECT_EQ(text, "b: 1\na\n");
  unsetenv("FR_TEST_LIST");
}

}  // namespace
}  // namespace fr
