// FR_TEST_REVERSED=1 runs every test with the last thread of a block first: a barrier that is
// missing shows in one of the two orders.

#include <cstdlib>

#include <gtest/gtest.h>

#include "simt.h"

namespace fr {
namespace {

class ThreadOrder : public testing::EmptyTestEventListener {
 public:
  void OnTestStart(const testing::TestInfo& /*test*/) override {
    emulated_gpu::simt::SetReversed(std::getenv("FR_TEST_REVERSED") != nullptr);
  }
};

[[maybe_unused]] const bool kRegistered = [] {
  testing::UnitTest::GetInstance()->listeners().Append(new ThreadOrder);  // which owns it
  return true;
}();

}  // namespace
}  // namespace fr
