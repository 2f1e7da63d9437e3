#pragma once
// Writes MXNet RecordIO with image headers: train.rec and train.idx. docs/formats.md has the
// layout. Little-endian machines only, like the format's other writers.

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <vector>

namespace fr {

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

}  // namespace fr
