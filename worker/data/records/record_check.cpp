#include "worker/data/records/record_check.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/mapped_file.h"
#include "worker/data/records/record_file.h"
#include "worker/data/records/record_layout.h"
#include "worker/data/records/set_property.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kRecordsPerReport = 1 << 16;

class Checker {
 public:
  Checker(const fs::path& directory, std::size_t max_faults)
      : max_faults_(max_faults),
        rec_(directory / "train.rec"),
        file_(rec_, true),
        num_identities_(ReadProperty(directory / "property").num_identities),
        entries_(ReadIndex(directory / "train.idx")) {
    std::stable_sort(entries_.begin(), entries_.end(),
                     [](const auto& a, const auto& b) { return a.offset < b.offset; });
    check_.num_records = std::ssize(entries_);
  }

  RecordCheck Run(const CheckProgress& progress) {
    CheckKeys();
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      CheckEntry(i);
      const auto done = static_cast<std::int64_t>(i) + 1;
      if (progress && (done % kRecordsPerReport == 0 || done == check_.num_records)) {
        progress(done, check_.num_records);
      }
    }
    CheckGap(file_.bytes().size());
    CheckIdentityRecords();
    return std::move(check_);
  }

 private:
  struct IdentityRecord {
    IndexEntry entry;
    std::int64_t first = 0;
    std::int64_t end = 0;
  };

  void Add(std::uint64_t key, std::uint64_t offset, const std::string& what) {
    ++check_.num_faults;
    if (check_.faults.size() < max_faults_) check_.faults.push_back({key, offset, what});
  }

  // Keys must be 0, 1, 2, ...; record 0 then tells what they stand for.
  void CheckKeys() {
    std::vector<bool> seen(entries_.size(), false);
    std::optional<std::uint64_t> offset_0;
    bool complete = true;
    for (const IndexEntry& entry : entries_) {
      if (entry.key == 0) offset_0 = entry.offset;
      if (entry.key < seen.size() && !seen[entry.key]) {
        seen[entry.key] = true;
        continue;
      }
      complete = false;
      Add(entry.key, entry.offset,
          entry.key < seen.size()
              ? "has two lines in train.idx"
              : fmt::format("is too high for an index of {} lines: lower keys are missing",
                            entries_.size()));
    }
    ImageRecord record;
    std::uint64_t end = 0;
    // A record 0 that cannot be read is found when its turn comes.
    if (!offset_0 || ParseRecord(file_.bytes(), *offset_0, &record, &end) != nullptr) return;
    try {
      layout_ = LayoutOf(record, entries_.size(), rec_);
    } catch (const Error& error) {
      if (complete) Add(0, *offset_0, error.what());
      return;
    }
    labels_.assign(layout_->images_end - layout_->images_begin, kUnknown);
  }

  // The bytes up to `begin`, where the next record is, must be those of records.
  void CheckGap(std::uint64_t begin) {
    if (!end_known_ || begin <= end_) return;
    Add(RecordFault::kNoKey, end_,
        fmt::format("{} bytes up to byte {} belong to no key of train.idx", begin - end_, begin));
  }

  void CheckEntry(std::size_t i) {
    const IndexEntry& entry = entries_[i];
    if (i > 0 && entries_[i - 1].offset == entry.offset) {
      return Add(entry.key, entry.offset,
                 fmt::format("points at the record of key {}", entries_[i - 1].key));
    }
    ImageRecord record;
    std::uint64_t end = 0;
    if (const char* wrong = ParseRecord(file_.bytes(), entry.offset, &record, &end)) {
      Add(entry.key, entry.offset,
          i > 0 && end_known_ && entry.offset < end_
              ? fmt::format("lies within the record of key {}, and {}", entries_[i - 1].key, wrong)
              : wrong);
      // Where the next record should begin is not known then: no gap is reported as well.
      end_known_ = end_known_ && entry.offset < end_;
      return;
    }
    CheckGap(entry.offset);
    if (end_known_ && entry.offset < end_) {
      Add(last_.key, last_.offset,
          fmt::format("runs into the record of key {} at byte {}", entry.key, entry.offset));
    }
    last_ = entry;
    end_ = end;
    end_known_ = true;
    if (record.id != entry.key) ++check_.num_other_ids;
    if (layout_) CheckContent(entry, record);
  }

  void CheckContent(const IndexEntry& entry, const ImageRecord& record) {
    if (entry.key < layout_->images_begin) return;
    if (entry.key >= layout_->images_end) {
      if (entry.key < layout_->identities_end && layout_->images_end < kExactKeys) {
        IdentityRecord identity{entry, 0, 0};
        if (ReadImageRange(record, *layout_, &identity.first, &identity.end)) {
          identities_.push_back(identity);
        } else {
          Add(entry.key, entry.offset, "names no images of the set");
        }
      }
      return;
    }
    if (record.image.empty()) Add(entry.key, entry.offset, "has no image");
    const std::int64_t label = IdentityOf(record, num_identities_);
    if (label < 0) {
      Add(entry.key, entry.offset,
          fmt::format("has the label {}, which is none of property's {} identities",
                      record.labels.empty() ? -1.0F : record.labels[0], num_identities_));
    }
    labels_[entry.key - layout_->images_begin] = label;
  }

  // All images of an identity record must be of one identity.
  void CheckIdentityRecords() {
    for (const IdentityRecord& identity : identities_) {
      std::int64_t label = kUnknown;
      for (std::int64_t image = identity.first; image < identity.end; ++image) {
        const std::int64_t own = labels_[static_cast<std::size_t>(image)];
        if (own < 0) continue;  // reported already
        if (label < 0) label = own;
        if (own == label) continue;
        Add(identity.entry.key, identity.entry.offset,
            fmt::format("names images of identity {} and of {} (key {})", label, own,
                        static_cast<std::uint64_t>(image) + layout_->images_begin));
        break;
      }
    }
  }

  static constexpr std::int64_t kUnknown = -1;

  std::size_t max_faults_;
  fs::path rec_;
  MappedFile file_;
  std::int64_t num_identities_;
  std::vector<IndexEntry> entries_;  // by offset
  std::optional<RecordLayout> layout_;
  std::vector<std::int64_t> labels_;  // of the images
  std::vector<IdentityRecord> identities_;
  IndexEntry last_;        // the last good record,
  std::uint64_t end_ = 0;  // and where it ends
  bool end_known_ = true;  // false: records that cannot be read followed it
  RecordCheck check_;
};

}  // namespace

RecordCheck CheckRecords(const fs::path& directory, std::size_t max_faults,
                         const CheckProgress& progress) {
  return Checker(directory, max_faults).Run(progress);
}

std::string DescribeFault(const RecordFault& fault) {
  return fault.key == RecordFault::kNoKey
             ? fmt::format("byte {}: {}", fault.offset, fault.what)
             : fmt::format("key {} at byte {}: {}", fault.key, fault.offset, fault.what);
}

}  // namespace fr
