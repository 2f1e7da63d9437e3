#pragma once
// `fr-data check`: every image of a set is decoded; what is wrong with them, and with what is said
// about them, is found before a training run stumbles over it.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "common/base/work_report.h"
#include "worker/data/check/duplicates.h"
#include "worker/data/records/record_check.h"

namespace fr {

struct CheckOptions {
  int threads = 1;
  // What is known so far lies in files of this name, so that a check that was stopped goes on; see
  // DiscardCheckState. Training sets only: verification sets are small.
  std::filesystem::path state;
  std::uint64_t checkpoint_bytes = std::uint64_t{1} << 20;  // of 24 bytes an image
  std::size_t max_record_faults = 1000;                     // that are listed; all are counted
  WorkReport report;                                        // images
};

// One image that is not as it should be.
struct ImageFault {
  std::int64_t index = 0;
  // In train.idx and train.rec; other layouts have none.
  std::optional<std::uint64_t> key;
  std::optional<std::uint64_t> byte;
  std::string where;  // in words
  std::string cause;
};

struct TrainingSetCheck {
  std::filesystem::path path;
  std::int64_t num_images = 0;
  std::int64_t num_identities = 0;
  int height = 0;
  int width = 0;

  // Why it could not be opened; then only record_faults may be known.
  std::string unreadable;
  std::vector<ImageFault> broken;      // cannot be read, or not be decoded
  std::vector<ImageFault> wrong_size;  // other than height x width
  Duplicates duplicates;
  std::vector<std::int64_t> empty_identities;
  RecordCheck records;  // of a set in InsightFace's layout

  bool ok() const;
};

struct VerificationSetCheck {
  std::filesystem::path path;
  std::int64_t num_pairs = 0;
  int height = 0;  // of most images
  int width = 0;

  std::string unreadable;
  std::vector<ImageFault> broken;  // `where` names the pair
  std::vector<ImageFault> wrong_size;
  std::vector<std::int64_t> identical_pairs;      // both images are the same, byte by byte
  std::vector<std::int64_t> contradicting_pairs;  // the same two images are there as same and not

  bool ok() const;
};

// The training set at `path`. Throws Error(kNotFound | kIo | kInvalidArgument) where there is none;
// one that is damaged is no error but a finding. Memory: 16 bytes an image, and the findings.
TrainingSetCheck CheckTrainingSet(const std::filesystem::path& path, const CheckOptions& options);

// Removes what CheckTrainingSet noted: when its result is safe.
void DiscardCheckState(const std::filesystem::path& state);

// The same of a .bin file. Throws Error(kInvalidArgument) for a file that is no pickle at all.
VerificationSetCheck CheckVerificationSet(const std::filesystem::path& path,
                                          const CheckOptions& options);

}  // namespace fr
