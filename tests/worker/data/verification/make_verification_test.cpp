#include "worker/data/verification/make_verification.h"

#include <filesystem>
#include <fstream>
#include <string>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/temporary_directory.h"
#include "tests/worker/data/grey_set.h"
#include "tests/worker/data/killed.h"
#include "worker/data/verification/pairs_txt.h"
#include "worker/data/verification/verification_set.h"

namespace fr {
namespace {

using testing::HasSubstr;

// A folder as LFW is: Ann and Bob with three pictures each, of 16 x 16 pixels.
class MakeVerificationTest : public testing::Test {
 protected:
  MakeVerificationTest() {
    for (int person = 0; person < 2; ++person) {
      for (int i = 1; i <= 3; ++i) {
        WritePicture(person == 0 ? "Ann" : "Bob", fmt::format("{:04}.jpg", i),
                     EncodeJpeg(Grey(16, 16, 60 * person + 10 * i), 95));
      }
    }
    options_.side = 16;
    options_.pairs_txt = directory_.path() / "pairs.txt";
  }

  void WritePicture(const std::string& name, const std::string& number, const std::string& bytes) {
    std::filesystem::create_directories(folder() / name);
    std::ofstream(folder() / name / fmt::format("{}_{}", name, number), std::ios::binary) << bytes;
  }

  std::string Picture(const std::string& name, int number) const {
    return ReadFile(folder() / name / fmt::format("{}_{:04}.jpg", name, number));
  }

  std::filesystem::path folder() const { return directory_.path() / "lfw"; }
  std::filesystem::path out() const { return directory_.path() / "lfw.bin"; }

  std::string ErrorOf(const std::string& list) {
    WriteFileAtomically(options_.pairs_txt, list);
    try {
      MakeVerificationSet(folder(), out(), options_);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument) << error.what();
      EXPECT_FALSE(std::filesystem::exists(out()));
      return error.what();
    }
    return "";
  }

  TemporaryDirectory directory_;
  MakeVerificationOptions options_;
};

TEST_F(MakeVerificationTest, FoldsOfAListStayInOrder) {
  WriteFileAtomically(options_.pairs_txt,
                      "2\t1\nAnn\t1\t3\nAnn\t2\tBob\t1\nBob\t2\t3\r\nBob\t1\tAnn\t1\n");
  MakeVerificationSet(folder(), out(), options_);
  const auto set = VerificationSet::Open(out());
  EXPECT_THAT(set.same(), testing::ElementsAre(1, 0, 1, 0));
  EXPECT_EQ(set.image(0), Picture("Ann", 1));
  EXPECT_EQ(set.image(1), Picture("Ann", 3));
  EXPECT_EQ(set.image(3), Picture("Bob", 1));
  EXPECT_EQ(set.image(5), Picture("Bob", 3));
}

// pairsDevTrain.txt: one number, one fold.
TEST_F(MakeVerificationTest, OneNumberIsOneFold) {
  EXPECT_EQ(ErrorOf("1\nAnn\t1\t2\nAnn\t1\tBob\t1\n"), "");
  EXPECT_EQ(VerificationSet::Open(out()).num_pairs(), 2);
}

TEST_F(MakeVerificationTest, EveryMistakeOfAListHasItsLine) {
  EXPECT_THAT(ErrorOf(""), HasSubstr("pairs.txt:0: "));
  EXPECT_THAT(ErrorOf("ten\t300\n"), HasSubstr("pairs.txt:1: "));
  EXPECT_THAT(ErrorOf("1\nAnn\t1\t2\nAnn\t1\tBob\n"), HasSubstr("pairs.txt:3: \"Bob\""));
  EXPECT_THAT(ErrorOf("1\nAnn\t1\t2\nAnn\t1\tBob\t1\t2\n"), HasSubstr("pairs.txt:3: "));
  EXPECT_THAT(ErrorOf("1\nAnn\t1\t2\nAnn\t1\tAnn\t2\n"), HasSubstr("both are \"Ann\""));
  EXPECT_THAT(ErrorOf("1\nAnn\t0\t2\nAnn\t1\tBob\t2\n"), HasSubstr("pairs.txt:2: \"0\""));
  EXPECT_THAT(ErrorOf("1\n../Ann\t1\t2\nAnn\t1\tBob\t2\n"), HasSubstr("pairs.txt:2: \"../Ann\""));
  EXPECT_THAT(ErrorOf("1\nAnn\t1\t2\nAnn\t1\tBob\t9\n"), HasSubstr("Bob/Bob_0009"));
  EXPECT_THAT(ErrorOf("2\t1\nAnn\t1\t2\nAnn\t1\tBob\t1\n"), HasSubstr("ends after 2 pairs"));
}

TEST_F(MakeVerificationTest, AnotherSizeIsRefusedByNameOrScaled) {
  WritePicture("Bob", "0004.png", EncodeJpeg(Grey(20, 30, 200), 95));
  const std::string list = "1\nBob\t1\t4\nAnn\t1\tBob\t1\n";
  EXPECT_THAT(ErrorOf(list),
              testing::AllOf(HasSubstr("Bob_0004.png: 30 x 20"), HasSubstr("--resize")));
  options_.resize = true;
  EXPECT_EQ(ErrorOf(list), "");
  const Image image = DecodeImage(VerificationSet::Open(out()).image(1));
  EXPECT_EQ(image.width, 16);
  EXPECT_NEAR(image.pixels[0], 200, 2);
}

TEST_F(MakeVerificationTest, ASetIsNotOverwritten) {
  EXPECT_EQ(ErrorOf("1\nAnn\t1\t2\nAnn\t1\tBob\t1\n"), "");
  const std::string before = ReadFile(out());
  EXPECT_THROW(MakeVerificationSet(folder(), out(), options_), Error);
  EXPECT_EQ(ReadFile(out()), before);
}

// Without a list, from a folder and from the set that was packed of it: the same.
TEST_F(MakeVerificationTest, PairsAreDrawnFromFoldersAndSets) {
  const GreySet grey;
  for (int identity = 0; identity < 5; ++identity) {
    for (int i = 0; i < 3; ++i) {
      const auto path = directory_.path() / "tree" / std::to_string(identity);
      std::filesystem::create_directories(path);
      std::ofstream(path / fmt::format("{}.jpg", i))
          << EncodeJpeg(Grey(16, 16, 16 * (3 * identity + i)), 95);
    }
  }
  options_.pairs_txt.clear();
  options_.max_pairs = 20;
  MakeVerificationSet(grey.path(), out(), options_);
  MakeVerificationSet(directory_.path() / "tree", directory_.path() / "tree.bin", options_);
  EXPECT_EQ(ReadFile(out()), ReadFile(directory_.path() / "tree.bin"));
  const auto set = VerificationSet::Open(out());
  EXPECT_EQ(set.num_pairs(), 20);
  for (int i = 0; i < 20; ++i) {
    const int first = DecodeImage(set.image(2 * i)).pixels[0] / 16;
    const int second = DecodeImage(set.image(2 * i + 1)).pixels[0] / 16;
    EXPECT_EQ(first / 3 == second / 3, set.same()[static_cast<std::size_t>(i)] == 1);
  }
}

}  // namespace
}  // namespace fr
