#include "worker/data/folders/picture_folder.h"

#include <algorithm>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fr {
namespace {

// Every two of them, in this order.
TEST(NaturalLess, CountsNumbersAsNumbers) {
  const std::vector<std::string> names = {"",   "1",    "01",    "2",   "10",     "010", "a",
                                          "a1", "a1b2", "a1b10", "a2",  "a02b",   "a10", "a10b",
                                          "b",  "s9",   "s009x", "s10", "s0010y", "s11", "t"};
  for (std::size_t i = 0; i < names.size(); ++i) {
    for (std::size_t j = 0; j < names.size(); ++j) {
      EXPECT_EQ(NaturalLess(names[i], names[j]), i < j) << names[i] << " and " << names[j];
    }
  }
}

}  // namespace
}  // namespace fr
