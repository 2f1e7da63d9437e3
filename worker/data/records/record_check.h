#pragma once
// The whole of a record set looked at once, in the order of the file: what a training run would
// only stumble over hours later.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace fr {

// One thing that is wrong with train.rec or train.idx.
struct RecordFault {
  static constexpr std::uint64_t kNoKey = ~std::uint64_t{0};
  std::uint64_t key = kNoKey;  // of train.idx; kNoKey for bytes that no key points at
  std::uint64_t offset = 0;    // byte of train.rec
  std::string what;            // "reaches beyond the end of the file"
};

struct RecordCheck {
  std::vector<RecordFault> faults;  // the first ones found, as many as were asked for
  std::int64_t num_faults = 0;      // all of them
  std::int64_t num_records = 0;     // lines of train.idx
  // Records whose header has another id than their key. No fault: real sets have them, and
  // nothing reads the id.
  std::int64_t num_other_ids = 0;
};

// Called now and then from CheckRecords, with records done and in all.
using CheckProgress = std::function<void(std::int64_t done, std::int64_t total)>;

// Reads train.rec of `directory` once, record by record in order of offsets, without decoding
// images. Finds records that are truncated, damaged, run into the next one, or have no image; keys
// that are missing, twice there, or point where no record is; bytes that no key points at; labels
// that are no identity of `property`; identity records whose images are others' or missing.
// Throws Error(kNotFound | kIo) for a missing file and Error(kDataLoss) for an index or property
// that is none.
RecordCheck CheckRecords(const std::filesystem::path& directory, std::size_t max_faults,
                         const CheckProgress& progress);

// "key 17 at byte 104220: reaches beyond the end of the file".
std::string DescribeFault(const RecordFault& fault);

}  // namespace fr
