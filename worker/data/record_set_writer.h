#pragma once
// Writes a training set in InsightFace's layout: train.rec, train.idx, property.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "worker/data/record_writer.h"

namespace fr {

// Images first, of one identity after the other, from 0.
class RecordSetWriter {
 public:
  // Makes `directory` if it is not there. Throws Error(kFailedPrecondition) if it holds a training
  // set already, Error(kIo).
  explicit RecordSetWriter(const std::filesystem::path& directory);

  // The images (JPEG or PNG) of the next identity. REQUIRES: not empty.
  void AddIdentity(const std::vector<std::string>& images);

  // Writes the identity records and `property`, without which it is no set. Throws Error(kIo).
  void Finish(int height, int width);

  std::int64_t num_images() const { return next_key_ - 1; }
  std::int64_t num_identities() const { return static_cast<std::int64_t>(first_keys_.size()); }

 private:
  std::filesystem::path directory_;
  RecordWriter records_;
  std::int64_t next_key_ = 1;
  std::vector<std::int64_t> first_keys_;
};

}  // namespace fr
