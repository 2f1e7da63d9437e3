#include "worker/data/prepare/align_folder.h"

#include <atomic>
#include <filesystem>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/temporary_directory.h"
#include "tests/worker/data/grey_set.h"

namespace fr {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;

// Pictures of 200 x 200 pixels; `find` knows a face in those whose path does not say "none".
class AlignFolderTest : public testing::Test {
 protected:
  void Put(const std::string& path, const std::string& bytes) {
    fs::create_directories((from() / path).parent_path());
    WriteFileAtomically(from() / path, bytes);
  }
  void PutGrey(const std::string& path, int value) {
    Put(path, EncodeJpeg(Grey(200, 200, value), 95));
  }

  AlignedFolder Align(int side = 112) {
    AlignOptions options;
    options.side = side;
    options.threads = 2;
    const FindPoints find = [this](const std::string& path,
                                   const Image&) -> std::optional<FacePoints> {
      ++asked_;
      if (path.find("none") != std::string::npos) return std::nullopt;
      return AlignedPoints(112);
    };
    return AlignFolder(from(), out(), find, options);
  }

  fs::path from() const { return directory_.path() / "from"; }
  fs::path out() const { return directory_.path() / "out"; }
  int GreyOf(const std::string& face) const {
    return DecodeImage(ReadFile(out() / face)).pixels[0];
  }

  TemporaryDirectory directory_;
  std::atomic<int> asked_ = 0;
};

TEST_F(AlignFolderTest, CutsTheFaceOutOfEveryPicture) {
  PutGrey("s1/1.jpg", 50);
  PutGrey("s2/1.jpg", 90);
  const AlignedFolder aligned = Align(64);
  EXPECT_EQ(aligned.aligned, 2);
  const Image face = DecodeImage(ReadFile(out() / "s2/1.jpg"));
  EXPECT_EQ(face.height, 64);
  EXPECT_EQ(face.width, 64);
  EXPECT_NEAR(face.pixels[0], 90, 1);
}

TEST_F(AlignFolderTest, ListsWhatHasNoFaceAndWhatIsBroken) {
  PutGrey("s1/1.jpg", 50);
  PutGrey("s1/none2.jpg", 50);
  Put("s1/3.jpg", "\xff\xd8 no more");
  AlignedFolder aligned = Align();
  EXPECT_EQ(aligned.aligned, 1);
  EXPECT_THAT(aligned.no_face, ElementsAre("s1/none2.jpg"));
  ASSERT_EQ(aligned.broken.size(), 1U);
  EXPECT_THAT(aligned.broken[0], testing::StartsWith("s1/3.jpg: "));
  EXPECT_EQ(ReadFile(out() / "no_face.txt"), "s1/none2.jpg\n");
  EXPECT_THAT(ReadFile(out() / "broken.txt"), testing::StartsWith("s1/3.jpg: "));
  // Once they are mended the lists go.
  fs::remove(from() / "s1/none2.jpg");
  PutGrey("s1/3.jpg", 70);
  Align();
  EXPECT_FALSE(fs::exists(out() / "no_face.txt"));
  EXPECT_FALSE(fs::exists(out() / "broken.txt"));
}

TEST_F(AlignFolderTest, GoesOnWhereItWasStopped) {
  for (int i = 0; i < 5; ++i) PutGrey("s1/" + std::to_string(i) + ".jpg", 50);
  Align();
  // One face is missing, one was cut short, and a killed run left a file behind.
  fs::remove(out() / "s1/1.jpg");
  WriteFileAtomically(out() / "s1/2.jpg", ReadFile(out() / "s1/2.jpg").substr(0, 300));
  WriteFileAtomically(out() / "s1/1.jpg.77.tmp", "half");
  asked_ = 0;
  const AlignedFolder aligned = Align();
  EXPECT_EQ(aligned.kept, 3);
  EXPECT_EQ(aligned.aligned, 2);
  EXPECT_EQ(asked_, 2);
  EXPECT_NEAR(GreyOf("s1/2.jpg"), 50, 1);
  EXPECT_FALSE(fs::exists(out() / "s1/1.jpg.77.tmp"));
  // Faces of another size are not those that are wanted.
  EXPECT_EQ(Align(64).aligned, 5);
}

TEST_F(AlignFolderTest, PicturesOfOneNameStayApart) {
  PutGrey("s1/a.jpg", 50);
  Put("s1/a.pgm", "P5 200 200 255\n" + std::string(200 * 200, 90));
  EXPECT_EQ(Align().aligned, 2);
  EXPECT_NEAR(GreyOf("s1/a.jpg"), 50, 1);
  EXPECT_NEAR(GreyOf("s1/a.pgm.jpg"), 90, 1);
}

TEST_F(AlignFolderTest, NeverWritesIntoThePictures) {
  PutGrey("s1/a.jpg", 50);
  for (const fs::path& out : {from(), from() / "out", directory_.path(), from() / "../from/s1"}) {
    EXPECT_THROW(AlignFolder(from(), out, PointsOf({}), {}), Error) << out;
  }
  EXPECT_THROW(AlignFolder(directory_.path() / "nowhere", out(), PointsOf({}), {}), Error);
}

TEST_F(AlignFolderTest, TakesPointsOfAFile) {
  PutGrey("s1/a.jpg", 50);
  PutGrey("s1/b.jpg", 50);
  const AlignedFolder aligned =
      AlignFolder(from(), out(), PointsOf({{"s1/a.jpg", AlignedPoints(112)}}), {});
  EXPECT_EQ(aligned.aligned, 1);
  EXPECT_THAT(aligned.no_face, ElementsAre("s1/b.jpg"));
}

}  // namespace
}  // namespace fr
