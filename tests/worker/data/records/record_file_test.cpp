#include "worker/data/records/record_file.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/temporary_directory.h"
#include "tests/worker/data/record_bytes.h"
#include "worker/data/records/record_writer.h"

namespace fr {
namespace {

class RecordFileTest : public testing::Test {
 protected:
  std::filesystem::path rec() const { return directory_.path() / "train.rec"; }
  std::filesystem::path idx() const { return directory_.path() / "train.idx"; }

  ErrorCode CodeOfReading(const std::string& bytes, std::uint64_t offset = 0) {
    WriteFileAtomically(rec(), bytes);
    try {
      const RecordFile file(rec());
      ImageRecord record;
      file.Read(offset, &record);
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr("train.rec"));
      return error.code();
    }
    return ErrorCode::kInternal;
  }

  TemporaryDirectory directory_;
};

// Byte by byte as docs/formats.md has it, made by hand.
TEST_F(RecordFileTest, ReadsAHandMadeRecord) {
  const std::string payload = Bytes(std::uint32_t{0}) + Bytes(7.0F) + Bytes(std::uint64_t{42}) +
                              Bytes(std::uint64_t{0}) + "jpeg!";
  WriteFileAtomically(rec(), kRecordMagic + Bytes(static_cast<std::uint32_t>(payload.size())) +
                                 payload + std::string(3, '\0'));
  const RecordFile file(rec());
  ImageRecord record;
  file.Read(0, &record);
  EXPECT_THAT(record.labels, testing::ElementsAre(7.0F));
  EXPECT_EQ(record.id, 42U);
  EXPECT_EQ(record.image, "jpeg!");
}

TEST_F(RecordFileTest, ReadsALabelVectorBehindTheHeader) {
  const std::string payload = Bytes(std::uint32_t{2}) + Bytes(0.0F) + Bytes(std::uint64_t{0}) +
                              Bytes(std::uint64_t{0}) + Bytes(3.0F) + Bytes(9.0F) + "xyz!";
  WriteFileAtomically(rec(),
                      kRecordMagic + Bytes(static_cast<std::uint32_t>(payload.size())) + payload);
  const RecordFile file(rec());
  ImageRecord record;
  file.Read(0, &record);
  EXPECT_THAT(record.labels, testing::ElementsAre(3.0F, 9.0F));
  EXPECT_EQ(record.image, "xyz!");
}

// What is written is read, whatever it holds: an image with the magic number is split and joined.
TEST_F(RecordFileTest, WhatIsWrittenIsRead) {
  const std::vector<std::string> images = {"",
                                           "a",
                                           kRecordMagic,
                                           "1234" + kRecordMagic + "5678" + kRecordMagic,
                                           kRecordMagic + kRecordMagic + "x",
                                           std::string(100'000, 'y')};
  RecordWriter writer(rec(), idx());
  for (std::size_t i = 0; i < images.size(); ++i) {
    writer.Write(i, i % 2 == 0 ? std::vector<float>{1.0F * i} : std::vector<float>{1, 2, 3},
                 images[i]);
  }
  EXPECT_FALSE(std::filesystem::exists(rec()));  // not before it is whole
  writer.Finish();
  const RecordFile file(rec());
  const std::vector<IndexEntry> index = ReadIndex(idx());
  ASSERT_EQ(index.size(), images.size());
  for (std::size_t i = 0; i < images.size(); ++i) {
    ImageRecord record;
    file.Read(index[i].offset, &record);
    EXPECT_EQ(record.image, images[i]) << i;
    EXPECT_EQ(record.labels.size(), i % 2 == 0 ? 1U : 3U);
    EXPECT_EQ(index[i].key, i);
  }
}

TEST_F(RecordFileTest, DamageIsNamed) {
  const std::string good = kRecordMagic + Bytes(std::uint32_t{24}) + std::string(24, '\0');
  EXPECT_EQ(CodeOfReading(good), ErrorCode::kInternal);  // no error
  EXPECT_EQ(CodeOfReading(""), ErrorCode::kDataLoss);
  EXPECT_EQ(CodeOfReading(good, 1'000'000), ErrorCode::kDataLoss);
  EXPECT_EQ(CodeOfReading(good, ~std::uint64_t{0}), ErrorCode::kDataLoss);
  EXPECT_EQ(CodeOfReading(good, 4), ErrorCode::kDataLoss);
  EXPECT_EQ(CodeOfReading(good.substr(0, good.size() - 1)), ErrorCode::kDataLoss);
  EXPECT_EQ(CodeOfReading(kRecordMagic + Bytes(std::uint32_t{8}) + std::string(8, '\0')),
            ErrorCode::kDataLoss);
  // A first part without a last one; a middle part at the beginning; more labels than bytes.
  EXPECT_EQ(CodeOfReading(kRecordMagic + Bytes(1U << 29 | 24U) + std::string(24, '\0') + good),
            ErrorCode::kDataLoss);
  EXPECT_EQ(CodeOfReading(kRecordMagic + Bytes(2U << 29 | 24U) + std::string(24, '\0')),
            ErrorCode::kDataLoss);
  EXPECT_EQ(CodeOfReading(kRecordMagic + Bytes(std::uint32_t{24}) + Bytes(~std::uint32_t{0}) +
                          std::string(20, '\0')),
            ErrorCode::kDataLoss);
}

}  // namespace
}  // namespace fr
