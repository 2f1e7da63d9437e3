#include "worker/data/images/landmarks.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/temporary_directory.h"

namespace fr {
namespace {

Landmarks Read(const std::string& text) {
  const TemporaryDirectory directory;
  WriteFileAtomically(directory.path() / "points.csv", text);
  return ReadLandmarks(directory.path() / "points.csv");
}

TEST(ReadLandmarks, ReadsCsvWithTitlesAndWithout) {
  const std::string line = "s1/1.jpg,38.5,51.7,73.5,51.5,56,71.7,41.5,92.4,70.7,92.2\n";
  for (const std::string& text :
       {line, "path,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5\n" + line, "\r\n./" + line + "\n"}) {
    const Landmarks landmarks = Read(text);
    ASSERT_EQ(landmarks.size(), 1U);
    const FacePoints& points = landmarks.at("s1/1.jpg");
    EXPECT_EQ(points[0].x, 38.5);
    EXPECT_EQ(points[0].y, 51.7);
    EXPECT_EQ(points[4].y, 92.2);
  }
}

TEST(ReadLandmarks, PathsMayHaveCommasAndQuotationMarks) {
  const std::string points = ",38,51,73,51,56,71,41,92,70,92\n";
  EXPECT_EQ(Read("a, b/1.jpg" + points).count("a, b/1.jpg"), 1U);
  EXPECT_EQ(Read("\"a, \"\"b\"\"/1.jpg\"" + points).count("a, \"b\"/1.jpg"), 1U);
}

TEST(ReadLandmarks, ReadsLinesOfJson) {
  const Landmarks landmarks = Read(
      R"({"path": "a/ü.png", "score": 0.9, "points": [[38, 51], [73, 51.5], [56, 71], [41, 92], [70, 92]]})"
      "\n");
  EXPECT_EQ(landmarks.at("a/ü.png")[1].y, 51.5);
}

TEST(ReadLandmarks, NamesTheLineThatIsWrong) {
  const std::string good = "a.jpg,38,51,73,51,56,71,41,92,70,92\n";
  for (const std::string& bad :
       {std::string("b.jpg,1,2,3"), std::string("b.jpg,38,51,73,51,56,71,41,92,70,x"),
        std::string("b.jpg,38,51,73,51,56,71,41,92,70,nan"),
        std::string("b.jpg,38,51,73,51,56,71,41,92,70,"), std::string("b.jpg"),
        std::string("b.jpg,1,1,1,1,1,1,1,1,1,1"), std::string(",38,51,73,51,56,71,41,92,70,92"),
        std::string("\"b.jpg,38,51,73,51,56,71,41,92,70,92"),
        std::string("a.jpg,38,51,73,51,56,71,41,92,70,92"), std::string("{\"path\": 3}"),
        std::string("{"), std::string("{\"path\": \"b\", \"points\": [1, 2, 3, 4, 5]}"),
        std::string("{\"path\": \"b\xff\", \"points\": []}"), std::string(100, '[')}) {
    try {
      Read(good + bad + "\n" + good);
      ADD_FAILURE() << bad;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_THAT(error.what(), testing::HasSubstr("points.csv:2: "));
    }
  }
  EXPECT_THROW(Read(""), Error);
}

}  // namespace
}  // namespace fr
