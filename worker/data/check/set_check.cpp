#include "worker/data/check/set_check.h"

#include <algorithm>
#include <memory>
#include <sstream>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "common/base/error.h"
#include "common/base/mapped_file.h"
#include "common/base/parallel.h"
#include "common/base/raw_value.h"
#include "common/base/resumable_output.h"
#include "worker/data/images/image.h"
#include "worker/data/prepare/set_fingerprint.h"
#include "worker/data/records/record_set.h"
#include "worker/data/storage_order.h"
#include "worker/data/training_set.h"

namespace fr {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr std::int64_t kImagesPerThread = 64;  // read at a time

// Numbers of the state's files.
constexpr std::size_t kEntries = 0;  // ImageEntry records
constexpr std::size_t kFaults = 1;   // one JSON object a line

ResumableOptions StateOptions(const fs::path& state, const std::string& fingerprint,
                              std::uint64_t checkpoint_bytes) {
  return {state,
          {{state.string() + ".images", false}, {state.string() + ".faults", false}},
          {fingerprint, checkpoint_bytes}};
}

// What looking at one image brought.
struct Look {
  ImageEntry entry;
  std::string broken;      // the cause, if it is
  std::string wrong_size;  // its size, if it is another
};

class Scanner {
 public:
  Scanner(const TrainingSet& set, const CheckOptions& options)
      : set_(set),
        options_(options),
        order_(set),
        out_(StateOptions(options.state, FingerprintOf(set), options.checkpoint_bytes)) {}

  void Run(TrainingSetCheck* check) {
    out_.TellStart(options_.report);
    const std::int64_t total = set_.num_images();
    std::vector<Look> looks;
    for (std::int64_t done = out_.place(); done < total; done += std::ssize(looks)) {
      options_.report.progress(done, total);
      looks.resize(
          static_cast<std::size_t>(std::min(kImagesPerThread * options_.threads, total - done)));
      ParallelFor(std::ssize(looks), options_.threads, [&](std::int64_t i) {
        looks[static_cast<std::size_t>(i)] = LookAt(order_[done + i]);
      });
      for (const Look& look : looks) Note(look);
      if (out_.CheckpointDue()) out_.Checkpoint(done + std::ssize(looks));
    }
    options_.report.progress(total, total);
    out_.Checkpoint(total);
    ReadFaults(check);
    ReadEntries(check);
  }

 private:
  Look LookAt(std::int64_t index) const {
    Look look;
    look.entry.index = static_cast<std::uint32_t>(index);
    try {
      Sample sample;
      set_.Read(index, &sample);
      look.entry.checksum = Checksum128Of(sample.image);
      look.entry.identity = static_cast<std::uint32_t>(sample.identity);
      const Image image = DecodeImage(sample.image);
      if (image.height != set_.height() || image.width != set_.width()) {
        look.wrong_size = fmt::format("{} x {} pixels", image.width, image.height);
      }
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kDataLoss) throw;
      look.broken = error.what();
    }
    return look;
  }

  void Note(const Look& look) {
    out_.Append(kEntries, {reinterpret_cast<const char*>(&look.entry), sizeof(look.entry)});
    if (!look.broken.empty()) NoteFault(look, "broken", look.broken);
    if (!look.wrong_size.empty()) NoteFault(look, "wrong_size", look.wrong_size);
  }

  void NoteFault(const Look& look, const char* kind, const std::string& cause) {
    const Json line = {{"kind", kind}, {"index", look.entry.index}, {"cause", cause}};
    out_.Append(kFaults, line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
  }

  void ReadFaults(TrainingSetCheck* check) {
    const auto* records = dynamic_cast<const RecordSet*>(&set_);
    std::istringstream lines(out_.ReadBack(kFaults));
    for (std::string line; std::getline(lines, line);) {
      const Json json = Json::parse(line);
      ImageFault fault;
      fault.index = json.at("index");
      fault.where = set_.Describe(fault.index);
      fault.cause = json.at("cause");
      if (records != nullptr) {
        fault.key = records->KeyOf(fault.index);
        fault.byte = set_.StoragePosition(fault.index);
      }
      (json.at("kind") == "broken" ? check->broken : check->wrong_size).push_back(std::move(fault));
    }
  }

  void ReadEntries(TrainingSetCheck* check) {
    const MappedFile file(out_.FlushedPath(kEntries), true);
    check->duplicates = FindDuplicates(file.bytes());
    DescribeImages(&check->duplicates.within_identity);
    DescribeImages(&check->duplicates.across_identities);
    std::vector<bool> has_images(static_cast<std::size_t>(set_.num_identities()), false);
    for (std::size_t at = 0; at < file.bytes().size(); at += sizeof(ImageEntry)) {
      const auto entry = LoadRaw<ImageEntry>(file.bytes(), at);
      if (entry.identity != ImageEntry::kUnread) has_images[entry.identity] = true;
    }
    for (std::size_t i = 0; i < has_images.size(); ++i) {
      if (!has_images[i]) check->empty_identities.push_back(static_cast<std::int64_t>(i));
    }
  }

  void DescribeImages(std::vector<DuplicateGroup>* groups) const {
    for (DuplicateGroup& group : *groups) {
      for (const std::int64_t image : group.images) group.where.push_back(set_.Describe(image));
    }
  }

  const TrainingSet& set_;
  const CheckOptions& options_;
  StorageOrder order_;
  ResumableOutput out_;
};

// Null, and the cause in `check`, for a set that is damaged.
std::unique_ptr<const TrainingSet> TryToOpen(const fs::path& path, TrainingSetCheck* check) {
  try {
    return OpenTrainingSet(path);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kDataLoss) throw;
    check->unreadable = error.what();
    return nullptr;
  }
}

}  // namespace

bool TrainingSetCheck::ok() const {
  return unreadable.empty() && broken.empty() && wrong_size.empty() &&
         duplicates.within_identity.empty() && duplicates.across_identities.empty() &&
         empty_identities.empty() && records.num_faults == 0;
}

TrainingSetCheck CheckTrainingSet(const fs::path& path, const CheckOptions& options) {
  TrainingSetCheck check;
  check.path = path;
  const auto set = TryToOpen(path, &check);
  if (set != nullptr) {
    check.num_images = set->num_images();
    check.num_identities = set->num_identities();
    check.height = set->height();
    check.width = set->width();
    Scanner(*set, options).Run(&check);
  }
  if (!fs::exists(path / "train.rec")) return check;
  try {
    check.records = CheckRecords(path, options.max_record_faults, {});
  } catch (const Error& error) {
    if (check.unreadable.empty()) check.unreadable = error.what();
  }
  return check;
}

void DiscardCheckState(const fs::path& state) {
  ResumableOutput::Discard(StateOptions(state, "", 0));
}

}  // namespace fr
