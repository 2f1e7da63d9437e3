#include "worker/data/folders/folder_set.h"

#include <filesystem>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/temporary_directory.h"
#include "tests/worker/data/grey_set.h"
#include "worker/data/loader.h"

namespace fr {
namespace {

// s2 with 2.png and 10.jpg, s10 with a.JPG; and what is none of it.
class FolderSetTest : public testing::Test {
 protected:
  FolderSetTest() {
    Write("s10/a.JPG", EncodeJpeg(Grey(16, 24, 30), 95));
    Write("s2/10.jpg", EncodeJpeg(Grey(16, 24, 20), 95));
    Write("s2/2.ppm", "P6 24 16 255\n" + std::string(16 * 24 * 3, '\x0a'));
    Write("s2/notes.txt", "no picture");
    Write("lfw.bin", "no folder");
    std::filesystem::create_directories(path() / "empty/inner.jpg");
  }

  void Write(const std::string& name, const std::string& bytes) {
    std::filesystem::create_directories((path() / name).parent_path());
    WriteFileAtomically(path() / name, bytes);
  }

  std::filesystem::path path() const { return directory_.path() / "faces"; }

  TemporaryDirectory directory_;
};

TEST_F(FolderSetTest, NumbersIdentitiesAndImagesByName) {
  const FolderSet set(path());
  ASSERT_EQ(set.num_images(), 3);
  EXPECT_EQ(set.num_identities(), 2);
  EXPECT_EQ(set.height(), 16);
  EXPECT_EQ(set.width(), 24);
  EXPECT_EQ(set.name(1), "s10");
  for (std::int64_t i = 0; i < 3; ++i) {
    Sample sample;
    set.Read(i, &sample);
    EXPECT_EQ(sample.identity, i / 2);
    EXPECT_NEAR(DecodeImage(sample.image).pixels[0], 10 * (i + 1), 2);
  }
  EXPECT_THAT(set.Describe(1), testing::EndsWith("faces/s2/10.jpg"));
  EXPECT_THAT(set.ImagesByIdentity().begin, testing::ElementsAre(0, 2, 3));
  EXPECT_THAT(set.ImagesByIdentity().images, testing::ElementsAre(0, 1, 2));
}

// Found when it is decoded, and named.
TEST_F(FolderSetTest, APictureOfAnotherSizeIsNamedByTheLoader) {
  Write("s2/3.jpg", EncodeJpeg(Grey(24, 16, 20), 95));
  const FolderSet set(path());
  LoaderOptions options;
  options.total_batch = options.slice_end = 4;
  Loader loader(set, options);
  try {
    Batch batch;
    loader.Next(&batch);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kDataLoss);
    EXPECT_THAT(error.what(), testing::HasSubstr("s2/3.jpg: a picture of 16 x 24 pixels where"));
  }
}

TEST_F(FolderSetTest, APictureThatIsGoneIsNamed) {
  const FolderSet set(path());
  std::filesystem::remove(path() / "s10/a.JPG");
  Sample sample;
  try {
    set.Read(2, &sample);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kDataLoss);
    EXPECT_THAT(error.what(), testing::HasSubstr("s10/a.JPG"));
  }
}

TEST_F(FolderSetTest, ABrokenFirstPictureIsNamed) {
  Write("s2/1.jpg", "\xff\xd8 no more");
  try {
    const FolderSet set(path());
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("s2/1.jpg"));
  }
}

}  // namespace
}  // namespace fr
