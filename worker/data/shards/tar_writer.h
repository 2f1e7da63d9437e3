#pragma once
// Writes tar archives (POSIX ustar) of files that are in memory.

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string_view>

namespace fr {

// Whole or not there: under a temporary name until Finish(), gone if that is never called. The same
// files give the same bytes (owner and time are 0).
class TarWriter {
 public:
  // Throws Error(kIo).
  explicit TarWriter(const std::filesystem::path& path);
  ~TarWriter();
  TarWriter(const TarWriter&) = delete;
  TarWriter& operator=(const TarWriter&) = delete;

  // REQUIRES: 0 < name.size() <= 100. Throws Error(kIo), Error(kInvalidArgument) for 8 GiB and
  // more.
  void Add(std::string_view name, std::string_view content);

  // Syncs and renames. Throws Error(kIo).
  void Finish();

  std::uint64_t size_bytes() const { return size_; }

 private:
  void CheckWritten() const;

  std::filesystem::path path_;
  std::filesystem::path partial_;
  std::ofstream file_;
  std::uint64_t size_ = 0;
  bool finished_ = false;
};

}  // namespace fr
