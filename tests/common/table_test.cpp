#include "common/cli/table.h"

#include <gtest/gtest.h>

namespace fr {
namespace {

TEST(FormatTable, AlignsColumnsAndLeavesNoTrailingSpace) {
  EXPECT_EQ(FormatTable({{"JOB"}, {"STEP", Align::kRight}, {"REASON"}},
                        {{"job-1", "1,000", "ok"}, {"job-12", "7", ""}}),
            "JOB      STEP  REASON\n"
            "job-1   1,000  ok\n"
            "job-12      7\n");
}

// Width is counted in characters, not in bytes of UTF-8.
TEST(FormatTable, AlignsTextBeyondAscii) {
  EXPECT_EQ(FormatTable({{"A"}, {"B"}}, {{"\xc3\xbc\xc3\xbc", "1"}, {"xy", "2"}}),
            "A   B\n\xc3\xbc\xc3\xbc  1\nxy  2\n");
}

// Every row stays one line, whatever a cell holds.
TEST(FormatTable, KeepsARowOnOneLine) {
  EXPECT_EQ(FormatTable({{"A"}}, {{"x\ny\x1b[1m"}}), "A\nx y [1m\n");
}

}  // namespace
}  // namespace fr
