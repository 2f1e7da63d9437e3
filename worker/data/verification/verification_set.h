#pragma once
// A verification set (lfw.bin and so on): encoded images in pairs, and which pairs show one
// identity. The format: docs/formats.md.

#include <cstdint>
#include <deque>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/mapped_file.h"

namespace fr {

// Thread-safe; cheap to move.
class VerificationSet {
 public:
  // Throws Error(kNotFound | kIo), Error(kDataLoss) that names file and cause.
  static VerificationSet Open(const std::filesystem::path& path);

  // The same of a file in memory, which must outlive the set; `path` is named in errors.
  static VerificationSet Parse(std::string_view bytes, const std::filesystem::path& path);

  std::int64_t num_pairs() const { return static_cast<std::int64_t>(same_.size()); }
  std::int64_t num_images() const { return 2 * num_pairs(); }
  // Image 2i and 2i + 1 make pair i; encoded.
  std::string_view image(std::int64_t index) const {
    return images_[static_cast<std::size_t>(index)];
  }
  const std::vector<std::uint8_t>& same() const { return same_; }  // 1: one identity
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  std::shared_ptr<const MappedFile> file_;
  std::shared_ptr<const std::deque<std::string>> decoded_;  // images that the file escapes
  std::vector<std::string_view> images_;                    // into the file, or into `decoded_`
  std::vector<std::uint8_t> same_;
};

}  // namespace fr
