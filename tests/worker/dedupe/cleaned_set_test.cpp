#include "worker/dedupe/cleaned_set.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "tests/worker/data/grey_set.h"
#include "worker/data/records/record_set.h"

namespace fr {
namespace {

using testing::ElementsAre;

class CleanedSetTest : public testing::Test {
 protected:
  CleanedSet Clean(const std::vector<std::int64_t>& labels,
                   const std::vector<std::string>& names = {}) {
    return WriteCleanedSet(set_, labels, names, out(), {});
  }
  std::filesystem::path out() const { return grey_.directory() / "out"; }

  // Which images of the old set the new one has: identity, number in GreySet.
  std::vector<std::vector<std::int64_t>> Content() const {
    const RecordSet cleaned(out());
    std::vector<std::vector<std::int64_t>> content;
    for (std::int64_t i = 0; i < cleaned.num_images(); ++i) {
      Sample sample;
      cleaned.Read(i, &sample);
      content.push_back({sample.identity, (DecodeImage(sample.image).pixels[0] + 8) / 16});
    }
    return content;
  }

  GreySet grey_;
  RecordSet set_ = RecordSet(grey_.path());
};

TEST_F(CleanedSetTest, LeavesIdentitiesOutAndNumbersTheOthersAnew) {
  const CleanedSet cleaned = Clean({0, -1, -1, 1, -1}, {"ann", "bob", "cat", "dan", "eve"});
  EXPECT_EQ(cleaned.num_identities, 2);
  EXPECT_EQ(cleaned.num_images, 6);
  EXPECT_THAT(Content(), ElementsAre(ElementsAre(0, 0), ElementsAre(0, 1), ElementsAre(0, 2),
                                     ElementsAre(1, 9), ElementsAre(1, 10), ElementsAre(1, 11)));
  EXPECT_EQ(ReadFile(out() / "identities.txt"), "0\tann\n1\tdan\n");
  EXPECT_EQ(ReadFile(out() / "old_identities.txt"), "0\t0\n1\t-\n2\t-\n3\t1\n4\t-\n");
}

TEST_F(CleanedSetTest, MergedIdentitiesAreOne) {
  Clean({0, 1, 0, -1, -1});
  EXPECT_THAT(Content(), ElementsAre(ElementsAre(0, 0), ElementsAre(0, 1), ElementsAre(0, 2),
                                     ElementsAre(0, 6), ElementsAre(0, 7), ElementsAre(0, 8),
                                     ElementsAre(1, 3), ElementsAre(1, 4), ElementsAre(1, 5)));
  EXPECT_EQ(ReadFile(out() / "identities.txt"), "0\t0\n1\t1\n");
}

TEST_F(CleanedSetTest, NobodyLeftIsAnError) {
  EXPECT_THROW(Clean(std::vector<std::int64_t>(5, -1)), Error);
  EXPECT_FALSE(std::filesystem::exists(out() / "property"));
}

TEST_F(CleanedSetTest, ASetThatIsThereIsKept) {
  Clean({0, 1, 2, 3, 4});
  EXPECT_THROW(Clean({0, 1, 2, 3, -1}), Error);
  EXPECT_EQ(RecordSet(out()).num_identities(), 5);
}

}  // namespace
}  // namespace fr
