#pragma once
// Reads MXNet RecordIO with image headers: train.rec. docs/formats.md has the layout.
// Little-endian machines only, like the format's other readers.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/mapped_file.h"
#include "worker/data/records/record_index.h"

namespace fr {

// The payload of one record: IRHeader, then the image as it was encoded.
struct ImageRecord {
  std::vector<float> labels;  // one, or as many as the header's flag says
  std::uint32_t flag = 0;     // 0: the label stands in the header itself
  std::uint64_t id = 0;       // its key, where the writer kept to that
  std::string_view image;     // into the file, or into `joined`
  std::string joined;         // only of a record that the writer had to split

  ImageRecord() = default;
  ImageRecord(const ImageRecord&) = delete;  // `image` may point into this very object
  ImageRecord& operator=(const ImageRecord&) = delete;
};

// Reads the record at byte `offset` of `file`, as dmlc-core's recordio.cc and mxnet/recordio.py
// do, but checks all that they trust: the magic number and kind of every part, that parts and
// padding end within the file, that payload and labels are there. Returns null, with the end of
// the record in `*end`; or what is wrong, which goes on after "the record at byte 17 ...".
const char* ParseRecord(std::string_view file, std::uint64_t offset, ImageRecord* record,
                        std::uint64_t* end);

// Reads records at known offsets. Thread-safe.
class RecordFile {
 public:
  // Throws Error(kNotFound | kIo).
  explicit RecordFile(const std::filesystem::path& path);

  // Returns where the record ends. Throws Error(kDataLoss), naming file, offset and cause, for
  // anything but a whole, well-formed record at `offset`. `record->image` is valid as long as this
  // file and `record`.
  std::uint64_t Read(std::uint64_t offset, ImageRecord* record) const;

  // Asks the system to read ahead what lies between these offsets.
  void Prefetch(std::uint64_t begin, std::uint64_t end) const { file_.Prefetch(begin, end); }

  std::uint64_t size_bytes() const { return file_.bytes().size(); }

 private:
  std::filesystem::path path_;
  MappedFile file_;
};

}  // namespace fr
