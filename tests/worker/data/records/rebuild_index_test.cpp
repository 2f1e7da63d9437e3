#include "worker/data/records/rebuild_index.h"

#include <algorithm>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/temporary_directory.h"
#include "tests/worker/data/grey_set.h"
#include "tests/worker/data/record_bytes.h"

namespace fr {
namespace {

class RebuildIndexTest : public testing::Test {
 protected:
  // Keys by position in the file, or the cause why there are none.
  std::vector<std::uint64_t> Keys(const std::vector<std::string>& records) {
    std::string bytes;
    std::vector<std::uint64_t> offsets;
    for (const std::string& record : records) {
      offsets.push_back(bytes.size());
      bytes += record;
    }
    WriteFileAtomically(rec(), bytes);
    std::vector<std::uint64_t> keys(records.size());
    for (const IndexEntry& entry : RebuildIndex(rec())) {
      const auto found = std::find(offsets.begin(), offsets.end(), entry.offset);
      keys[static_cast<std::size_t>(found - offsets.begin())] = entry.key;
    }
    return keys;
  }

  std::filesystem::path rec() const { return directory_.path() / "train.rec"; }

  TemporaryDirectory directory_;
};

// Our own writer puts record 0 last: the ids tell.
TEST_F(RebuildIndexTest, MakesTheIndexThatTheWriterMade) {
  const GreySet set;
  std::vector<IndexEntry> written = ReadIndex(set.path() / "train.idx");
  std::sort(written.begin(), written.end(), [](auto& a, auto& b) { return a.key < b.key; });
  EXPECT_EQ(RebuildIndex(set.path() / "train.rec"), written);
  WriteIndex(directory_.path() / "train.idx", written);
  EXPECT_EQ(ReadIndex(directory_.path() / "train.idx"), written);
}

// Ids that are no keys: the order of the file counts, where record 0 fits it.
TEST_F(RebuildIndexTest, CountsRecordsWhereIdsAreNoKeys) {
  const std::string image = PartBytes(PayloadBytes({0}, 77, "image"));
  const std::string identity = PartBytes(PayloadBytes({1, 3}, 77, ""));
  const std::string record_0 = PartBytes(PayloadBytes({3, 4}, 77, ""));
  EXPECT_THAT(Keys({record_0, image, image, identity}), testing::ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(Keys({image, image}), testing::ElementsAre(0, 1));
  EXPECT_THROW(Keys({image, image, identity, record_0}), Error);
  EXPECT_THROW(Keys({record_0, image, identity, identity}), Error);
}

TEST_F(RebuildIndexTest, DamageIsNamedWithItsByte) {
  const std::string image = PartBytes(PayloadBytes({0}, 0, "image"));
  try {
    Keys({image, image.substr(0, image.size() - 4)});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kDataLoss);
    EXPECT_THAT(error.what(), testing::HasSubstr("the record at byte 40 reaches beyond"));
  }
  EXPECT_THROW(Keys({}), Error);
}

}  // namespace
}  // namespace fr
