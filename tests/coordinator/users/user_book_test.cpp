#include "coordinator/users/user_book.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fr {
namespace {

constexpr std::int64_t kDay = 24 * 60 * 60 * 1000;

// What is said of one user stands before what is said of all, key by key.
TEST(UserBook, LimitsAreTheUsersOwnOrThoseOfAll) {
  CoordinatorSpec spec;
  spec.mutable_limits()->set_max_jobs(10);
  spec.mutable_limits()->set_max_workers(4);
  UserSpec* ada = spec.add_users();
  ada->set_name("ada");
  ada->mutable_limits()->set_max_workers(16);
  const UserBook book(spec, {});
  EXPECT_EQ(book.LimitsOf("ada").max_workers(), 16);
  EXPECT_EQ(book.LimitsOf("ada").max_jobs(), 10);
  EXPECT_EQ(book.LimitsOf("bob").max_workers(), 4);
  EXPECT_EQ(UserBook(CoordinatorSpec(), {}).LimitsOf("bob").max_jobs(), 1000);
}

// Use counts half after a week, and is forgotten in the end.
TEST(UserBook, UseFadesByHalfLives) {
  UserBook book(CoordinatorSpec(), {});
  book.Set(book.Charged("ada", 1000, 0));
  EXPECT_DOUBLE_EQ(book.UsedBy("ada", 7 * kDay), 500);
  book.Set(book.Charged("ada", 100, 7 * kDay));
  EXPECT_DOUBLE_EQ(book.UsedBy("ada", 14 * kDay), 300);
  EXPECT_EQ(book.UsedBy("bob", 0), 0);
  EXPECT_THAT(book.Names(14 * kDay), testing::ElementsAre("ada"));
  EXPECT_THAT(book.Names(365 * kDay), testing::IsEmpty());
  EXPECT_DOUBLE_EQ(book.ViewOf("ada", 14 * kDay).slot_seconds, 300);
  EXPECT_EQ(book.ViewOf("ada", 14 * kDay).share, 1);
}

}  // namespace
}  // namespace fr
