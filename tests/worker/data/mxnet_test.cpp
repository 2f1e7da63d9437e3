// MXNet itself reads what we write, and we read what it writes.

#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "common/base/file.h"
#include "common/base/temporary_directory.h"
#include "tests/python.h"
#include "tests/worker/data/record_bytes.h"
#include "worker/data/records/record_check.h"
#include "worker/data/records/record_file.h"
#include "worker/data/records/record_set.h"
#include "worker/data/records/record_writer.h"

namespace fr {
namespace {

// Payloads with and without the magic number, at multiples of four and elsewhere: the same in both
// languages.
constexpr const char* kImages = R"(
import mxnet as mx
magic = b"\x0a\x23\xd7\xce"
images = [b"image", magic, b"1" + magic, b"1234" + magic + b"567" + magic, magic + magic + b"x",
          b"y" * 100_000 + magic + b"y" * 3, magic[:3], b"123" + magic[1:] + magic]
)";

std::vector<std::string> Images() {
  const std::string& magic = kRecordMagic;
  return {"image",
          magic,
          "1" + magic,
          "1234" + magic + "567" + magic,
          magic + magic + "x",
          std::string(100'000, 'y') + magic + "yyy",
          magic.substr(0, 3),
          "123" + magic.substr(1) + magic};
}

class MxnetTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(FR_MXNET_PYTHON)) {
      GTEST_SKIP() << FR_MXNET_PYTHON
          " is not there (scripts/setup makes it): MXNet itself has "
          "not read our records, nor we its own";
    }
  }

  std::string RunMxnet(const std::string& program) const {
    return RunPython(directory_.path(), kImages + program, FR_MXNET_PYTHON);
  }

  std::filesystem::path path() const { return directory_.path(); }

  TemporaryDirectory directory_;
};

// One label in the header, or three behind it.
TEST_F(MxnetTest, WeReadWhatMxnetWrites) {
  RunMxnet(R"(
writer = mx.recordio.MXIndexedRecordIO("train.idx", "train.rec", "w")
for key, image in enumerate(images):
    label = float(key) if key % 2 == 0 else [float(key), 0.5, -1.0]
    writer.write_idx(key, mx.recordio.pack(mx.recordio.IRHeader(0, label, key, 0), image))
writer.close()
)");
  WriteFileAtomically(path() / "property", "8,112,112");
  const RecordSet set(path());
  ASSERT_EQ(set.num_images(), std::ssize(Images()));
  const RecordFile file(path() / "train.rec");
  for (std::int64_t i = 0; i < set.num_images(); ++i) {
    Sample sample;
    set.Read(i, &sample);
    EXPECT_EQ(sample.image, Images()[static_cast<std::size_t>(i)]) << i;
    EXPECT_EQ(sample.identity, i);
    ImageRecord record;
    file.Read(set.StoragePosition(i), &record);
    EXPECT_EQ(record.labels.size(), i % 2 == 0 ? 1U : 3U);
    EXPECT_EQ(record.id, static_cast<std::uint64_t>(i));
  }
  const RecordCheck check = CheckRecords(path(), 10, {});
  EXPECT_EQ(check.num_faults, 0) << DescribeFault(check.faults[0]);
}

TEST_F(MxnetTest, MxnetReadsWhatWeWrite) {
  RecordWriter writer(path() / "train.rec", path() / "train.idx");
  const std::vector<std::string> images = Images();
  for (std::size_t key = 0; key < images.size(); ++key) {
    const auto label = static_cast<float>(key);
    writer.Write(key, key % 2 == 0 ? std::vector<float>{label} : std::vector<float>{label, 0.5, -1},
                 images[key]);
  }
  writer.Finish();
  EXPECT_EQ(RunMxnet(R"(
reader = mx.recordio.MXIndexedRecordIO("train.idx", "train.rec", "r")
assert sorted(reader.keys) == list(range(len(images)))
for key, image in reversed(list(enumerate(images))):
    header, content = mx.recordio.unpack(reader.read_idx(key))
    assert content == image, key
    assert header.id == key
    assert header.flag == (0 if key % 2 == 0 else 3)
    label = [float(key)] if key % 2 == 0 else [float(key), 0.5, -1.0]
    assert ([header.label] if header.flag == 0 else list(header.label)) == label
in_order = mx.recordio.MXRecordIO("train.rec", "r")
assert sum(1 for _ in iter(in_order.read, None)) == len(images)
print("all")
)"),
            "all\n");
}

}  // namespace
}  // namespace fr
