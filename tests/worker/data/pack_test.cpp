#include "worker/data/pack.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "tests/temporary_directory.h"
#include "tests/worker/data/grey_set.h"
#include "worker/data/record_set.h"

namespace fr {
namespace {

TEST(PackFolder, PacksATreeAndHoldsIdentitiesOut) {
  const TemporaryDirectory directory;
  for (const char* name : {"s1", "s2", "s10", "s11"}) {
    std::filesystem::create_directories(directory.path() / "tree" / name);
    for (int i = 0; i < 4; ++i) {
      const auto file = directory.path() / "tree" / name / std::to_string(i);
      if (i == 0) {
        WriteFileAtomically(file.string() + ".pgm",
                            "P5\n# a comment\n92 112\n255\n" + std::string(92 * 112, 'x'));
      } else {
        WriteFileAtomically(file.string() + ".jpg", EncodeJpeg(Grey(112, 112, 50 * i), 90));
      }
    }
  }
  PackOptions options;
  options.held_out_identities = 2;
  const PackedSet packed = PackFolder(directory.path() / "tree", directory.path() / "set", options);
  EXPECT_EQ(packed.num_identities, 2);
  EXPECT_EQ(packed.num_images, 8);
  EXPECT_EQ(packed.held_out.size(), 2U);
  EXPECT_EQ(packed.num_pairs, 24);
  const RecordSet set(directory.path() / "set");
  Sample sample;
  set.Read(0, &sample);
  EXPECT_EQ(DecodeImage(sample.image).width, 112);
  // A JPEG of the right size is kept as it was.
  set.Read(1, &sample);
  EXPECT_EQ(sample.image, EncodeJpeg(Grey(112, 112, 50), 90));
  // Held-out people are in nobody's training set, and numbers count as numbers.
  const std::string names = ReadFile(directory.path() / "set" / "identities.txt");
  for (const std::string& name : packed.held_out) {
    EXPECT_EQ(names.find("\t" + name + "\n"), std::string::npos);
  }
  EXPECT_THROW(PackFolder(directory.path() / "none", directory.path() / "x", options), Error);
  options.held_out_identities = 4;
  EXPECT_THROW(PackFolder(directory.path() / "tree", directory.path() / "x", options), Error);
}

TEST(PackFolder, ABrokenPictureIsNamedOrLeftOut) {
  const TemporaryDirectory directory;
  std::filesystem::create_directories(directory.path() / "tree/a");
  WriteFileAtomically(directory.path() / "tree/a/good.jpg", EncodeJpeg(Grey(112, 112, 9), 90));
  WriteFileAtomically(directory.path() / "tree/a/bad.jpg", "\xff\xd8 no more");
  try {
    PackFolder(directory.path() / "tree", directory.path() / "set", {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("bad.jpg"));
  }
  PackOptions options;
  options.skip_broken = true;
  const PackedSet packed = PackFolder(directory.path() / "tree", directory.path() / "set", options);
  EXPECT_EQ(packed.num_images, 1);
  ASSERT_EQ(packed.broken.size(), 1U);
}

}  // namespace
}  // namespace fr
