#include <atomic>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/base/checksum.h"
#include "common/base/crc32c.h"
#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/mapped_file.h"
#include "common/base/parallel.h"
#include "common/base/quoted.h"
#include "common/base/random.h"
#include "common/base/temporary_directory.h"

namespace fr {
namespace {

TEST(File, IsWholeOrNotThere) {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "file";
  WriteFileAtomically(path, "one");
  WriteFileAtomically(path, std::string("t\0o", 3));
  EXPECT_EQ(ReadFile(path), std::string("t\0o", 3));
  EXPECT_EQ(MappedFile(path, true).bytes(), std::string("t\0o", 3));
  // Nothing is left beside it.
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory.path()), {}), 1);
  WriteFileAtomically(path, "");
  EXPECT_EQ(MappedFile(path, true).bytes(), "");
  for (const auto& missing : {directory.path() / "none", directory.path() / "none/none"}) {
    try {
      ReadFile(missing);
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kNotFound);
    }
    EXPECT_THROW(MappedFile(missing, false), Error);
  }
  EXPECT_THROW(MappedFile(directory.path(), false), Error);
  EXPECT_THROW(WriteFileAtomically(directory.path() / "none/none", "x"), Error);
}

// XXH3's own test value of no bytes.
TEST(Checksum, OfPartsIsThatOfTheWhole) {
  EXPECT_EQ(ChecksumOf(""), 0x2d06800538d394c2ULL);
  Checksum parts;
  parts.Update("ab", 2);
  parts.Update("", 0);
  parts.Update("c", 1);
  EXPECT_EQ(parts.Value(), ChecksumOf("abc"));
}

// The examples of RFC 3720, B.4, and the check value that catalogues of CRCs give.
TEST(Crc32c, IsThatOfTheStandard) {
  std::string ascending(32, '\0');
  std::iota(ascending.begin(), ascending.end(), '\0');
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8A9136AAU);
  EXPECT_EQ(Crc32c(std::string(32, '\xFF')), 0x62A8AB43U);
  EXPECT_EQ(Crc32c(ascending), 0x46DD794EU);
  EXPECT_EQ(Crc32c(std::string(ascending.rbegin(), ascending.rend())), 0x113FDB5CU);
  EXPECT_EQ(Crc32c("123456789"), 0xE3069283U);
  EXPECT_EQ(Crc32c(""), 0U);
}

// Whatever the bytes are: no UTF-8, control characters of a terminal, a megabyte.
TEST(Quoted, IsPrintableAndShort) {
  EXPECT_EQ(Quoted("layer1.0.conv1"), "\"layer1.0.conv1\"");
  EXPECT_EQ(Quoted("a\"b\\c"), R"("a\"b\\c")");
  EXPECT_EQ(Quoted("\xff\x1b[2J\n"), R"("\xff\x1b[2J\x0a")");
  EXPECT_EQ(Quoted(std::string(1'000'000, 'x')).size(), 205U);
}

TEST(ParallelFor, VisitsEachIndexOnce) {
  for (const int threads : {1, 3, 64}) {
    std::vector<std::atomic<int>> visits(1000);
    ParallelFor(1000, threads, [&](std::int64_t i) { ++visits[static_cast<std::size_t>(i)]; });
    for (const auto& count : visits) EXPECT_EQ(count, 1);
  }
  ParallelFor(0, 4, [](std::int64_t) { FAIL(); });
}

TEST(ParallelFor, ThrowsWhatWasThrown) {
  EXPECT_THROW(ParallelFor(100, 4,
                           [](std::int64_t i) {
                             if (i == 50) throw std::runtime_error("no");
                           }),
               std::runtime_error);
}

// SplitMix64's published first output for seed 1234567; the same on every machine.
TEST(Random, IsSplitMix64) {
  Random random(1234567);
  EXPECT_EQ(random.Bits(), 6457827717110365317ULL);
  double mean = 0;
  double square = 0;
  for (int i = 0; i < 100'000; ++i) {
    const double value = random.Normal();
    mean += value / 100'000;
    square += value * value / 100'000;
    const double uniform = random.Uniform();
    ASSERT_TRUE(uniform >= 0 && uniform < 1);
    ASSERT_LT(random.Below(7), 7);
  }
  EXPECT_NEAR(mean, 0, 0.02);
  EXPECT_NEAR(square, 1, 0.02);
}

}  // namespace
}  // namespace fr
