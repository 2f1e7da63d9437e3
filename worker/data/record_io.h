#pragma once
// MXNet RecordIO with image headers: train.rec and train.idx. docs/formats.md has the layout.
// Little-endian machines only, like the format's other readers.

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/mapped_file.h"

namespace fr {

// The payload of one record: IRHeader, then the image as it was encoded.
struct ImageRecord {
  std::vector<float> labels;  // one, or as many as the header's flag says
  std::uint64_t id = 0;
  std::string_view image;  // into the file, or into `joined`
  std::string joined;      // only of a record that the writer had to split

  ImageRecord() = default;
  ImageRecord(const ImageRecord&) = delete;  // `image` may point into this very object
  ImageRecord& operator=(const ImageRecord&) = delete;
};

// Reads records at known offsets. Thread-safe.
class RecordFile {
 public:
  // Throws Error(kNotFound | kIo).
  explicit RecordFile(const std::filesystem::path& path);

  // Throws Error(kDataLoss), naming file, offset and cause, for anything but a whole, well-formed
  // record at `offset`. `record->image` is valid as long as this file and `record`.
  void Read(std::uint64_t offset, ImageRecord* record) const;

  // Asks the system to read ahead what lies between these offsets.
  void Prefetch(std::uint64_t begin, std::uint64_t end) const { file_.Prefetch(begin, end); }

  std::uint64_t size_bytes() const { return file_.bytes().size(); }

 private:
  std::filesystem::path path_;
  MappedFile file_;
};

// Writes a .rec file and its .idx, whole or not at all: under temporary names until Finish().
class RecordWriter {
 public:
  // Throws Error(kIo).
  RecordWriter(const std::filesystem::path& rec, const std::filesystem::path& idx);

  // One label is written into the header itself (flag 0), several behind it.
  void Write(std::uint64_t key, const std::vector<float>& labels, std::string_view image);

  // Syncs and renames both. Throws Error(kIo | kResourceExhausted).
  void Finish();

 private:
  void WritePart(std::uint32_t kind, std::string_view part);

  std::filesystem::path rec_path_;
  std::filesystem::path idx_path_;
  std::ofstream rec_;
  std::ofstream idx_;
  std::uint64_t offset_ = 0;
};

// One line of train.idx.
struct IndexEntry {
  std::uint64_t key = 0;
  std::uint64_t offset = 0;
};

// All lines, in their order. Throws Error(kNotFound | kIo), Error(kDataLoss) naming the line that
// is no `key<TAB>offset`.
std::vector<IndexEntry> ReadIndex(const std::filesystem::path& path);

}  // namespace fr
