#pragma once
// The centres of a set's identities, in a file that grows as they are computed.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "common/base/file.h"
#include "common/base/mapped_file.h"

namespace fr {

// What a file of centres belongs to.
struct CentreFileHeader {
  std::string fingerprint;  // text of everything that the centres depend on
  std::int64_t num_identities = 0;
  std::int64_t dimension = 0;
};

// 64 bytes of text, "fr-centres 1 FINGERPRINT'S-CHECKSUM IDENTITIES DIMENSION", then float32 rows
// in the order of identities. Rows that an earlier run wrote count; half a row does not.
class CentreFileWriter {
 public:
  // Throws Error(kFailedPrecondition) if `path` holds the centres of another set or model,
  // Error(kIo).
  CentreFileWriter(const std::filesystem::path& path, const CentreFileHeader& header);

  // Identities that have their row.
  std::int64_t done() const { return done_; }
  // Rows of the next identities: a multiple of `dimension` values. Throws Error(kIo |
  // kResourceExhausted).
  void Append(std::span<const float> rows);

 private:
  std::filesystem::path path_;
  std::int64_t dimension_;
  std::int64_t done_ = 0;
  FileDescriptor file_;
};

// A whole file, mapped: its size does not matter.
class CentreFile {
 public:
  // Throws Error(kNotFound | kIo), Error(kDataLoss) for what CentreFileWriter did not complete.
  explicit CentreFile(const std::filesystem::path& path);

  std::int64_t num_identities() const { return num_identities_; }
  std::int64_t dimension() const { return dimension_; }
  // Of identities [begin, end); of length 1, or 0 for an identity without images.
  std::span<const float> Rows(std::int64_t begin, std::int64_t end) const;

 private:
  MappedFile file_;
  std::int64_t num_identities_ = 0;
  std::int64_t dimension_ = 0;
};

}  // namespace fr
