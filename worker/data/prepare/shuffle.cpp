#include "worker/data/prepare/shuffle.h"

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/raw_value.h"
#include "common/base/resumable_output.h"
#include "worker/data/folders/identity_names.h"
#include "worker/data/prepare/set_fingerprint.h"
#include "worker/data/records/record_set_writer.h"
#include "worker/data/sample_order.h"
#include "worker/data/storage_order.h"
#include "worker/data/training_set.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

// As many files are open at a time.
constexpr std::int64_t kMaxBuckets = 512;
constexpr std::int64_t kSampledImages = 1000;
constexpr std::int64_t kImagesPerReport = 1024;

// Numbers of the files beside train.rec and train.idx.
constexpr std::size_t kNames = 2;
constexpr std::size_t kProperty = 3;

// What precedes the bytes of each image in a bucket.
struct BucketHeader {
  std::int64_t place = 0;  // in the shuffled order
  std::int64_t index = 0;
  std::uint32_t identity = 0;
  std::uint32_t size = 0;  // bytes
};

// A bucket holds the images whose places lie next to each other, and fits into memory. Twice the
// memory that an average one needs, because images have different sizes.
std::int64_t CountBuckets(const TrainingSet& set, std::uint64_t memory_bytes) {
  const std::int64_t sampled = std::min(kSampledImages, set.num_images());
  double bytes = 0;
  for (std::int64_t i = 0; i < sampled; ++i) {
    Sample sample;
    set.Read(i * set.num_images() / sampled, &sample);
    bytes += static_cast<double>(sample.image.size() + sizeof(BucketHeader));
  }
  const double all = bytes / static_cast<double>(sampled) * static_cast<double>(set.num_images());
  const double buckets = 1 + 2 * all / static_cast<double>(memory_bytes);
  if (buckets > static_cast<double>(kMaxBuckets)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: about {:.0f} MiB of images cannot be shuffled with so little "
                            "memory; {:.0f} MiB would do",
                            set.path().string(), all / (1 << 20),
                            2 * all / static_cast<double>(kMaxBuckets - 1) / (1 << 20) + 1));
  }
  return std::min(static_cast<std::int64_t>(buckets), set.num_images());
}

class Shuffler {
 public:
  Shuffler(const TrainingSet& set, const fs::path& out, const ShuffleOptions& options)
      : set_(set),
        out_(DirectoryForSet(out)),
        options_(options),
        num_buckets_(CountBuckets(set, options.memory_bytes)),
        fingerprint_(
            fmt::format("shuffle {} {}\n{}", options.seed, num_buckets_, FingerprintOf(set))) {}

  void Run() {
    const bool named = fs::exists(set_.path() / kIdentityNamesFile);
    RecordWriter records(out_ / "train.rec", out_ / "train.idx",
                         {fingerprint_, options_.checkpoint_bytes},
                         {{out_ / kIdentityNamesFile, named}, {out_ / "property"}});
    RefuseToReplaceSet(out_, &records);
    ResumableOutput& output = records.output();
    if (output.start() == ResumableOutput::Start::kComplete) return;
    if (output.place() < num_buckets_) {
      ResumableOutput buckets(BucketOptions());
      (output.place() > 0 ? output : buckets).TellStart(options_.report);
      FillBuckets(&buckets);
      EmptyBuckets(&buckets, &records);
      buckets.Discard();
    }
    WriteIdentityRecords(FirstKeys(), set_.num_images() + 1, &records);
    if (named) output.Append(kNames, ReadFile(set_.path() / kIdentityNamesFile));
    output.Append(kProperty, PropertyText(set_.num_identities(), set_.height(), set_.width()));
    records.Finish(num_buckets_);
  }

 private:
  ResumableOptions BucketOptions() const {
    ResumableOptions options;
    options.journal = out_ / "shuffle.journal";
    for (std::int64_t i = 0; i < num_buckets_; ++i) {
      options.files.push_back({out_ / fmt::format("shuffle.{:03}", i), false});
    }
    options.resume.fingerprint = fingerprint_;
    // Syncing a file costs the same whether it got a little or a lot.
    options.resume.checkpoint_bytes =
        options_.checkpoint_bytes * static_cast<std::uint64_t>(1 + num_buckets_ / 16);
    return options;
  }

  void FillBuckets(ResumableOutput* buckets) const {
    const std::int64_t total = set_.num_images();
    const StorageOrder stored(set_);
    const SampleOrder shuffled(options_.seed, 0, total);
    for (std::int64_t done = buckets->place(); done < total; ++done) {
      if (done % kImagesPerReport == 0) options_.report.progress(done, 2 * total);
      const std::int64_t index = stored[done];
      Sample sample;
      set_.Read(index, &sample);
      BucketHeader header;
      header.place = shuffled[index];
      header.index = index;
      header.identity = static_cast<std::uint32_t>(sample.identity);
      header.size = static_cast<std::uint32_t>(sample.image.size());
      const auto bucket = static_cast<std::size_t>(header.place * num_buckets_ / total);
      buckets->Append(bucket, {reinterpret_cast<const char*>(&header), sizeof(header)});
      buckets->Append(bucket, sample.image);
      if (buckets->CheckpointDue()) buckets->Checkpoint(done + 1);
    }
    if (buckets->place() < total) buckets->Checkpoint(total);
  }

  void EmptyBuckets(ResumableOutput* buckets, RecordWriter* records) const {
    const std::int64_t total = set_.num_images();
    for (std::int64_t i = records->output().place(); i < num_buckets_; ++i) {
      options_.report.progress(total + total * i / num_buckets_, 2 * total);
      WriteInOrder(buckets->ReadBack(static_cast<std::size_t>(i)), records);
      const bool last = i + 1 == num_buckets_;  // the buckets go then
      if (last || records->output().CheckpointDue()) records->output().Checkpoint(i + 1);
    }
    options_.report.progress(2 * total, 2 * total);
  }

  static void WriteInOrder(const std::string& bucket, RecordWriter* records) {
    struct Entry {
      BucketHeader header;
      std::string_view image;
    };
    std::vector<Entry> entries;
    for (std::size_t at = 0; at < bucket.size();) {
      Entry entry;
      entry.header = LoadRaw<BucketHeader>(bucket, at);
      at += sizeof(BucketHeader);
      entry.image = std::string_view(bucket).substr(at, entry.header.size);
      at += entry.header.size;
      entries.push_back(entry);
    }
    std::sort(entries.begin(), entries.end(),
              [](const Entry& a, const Entry& b) { return a.header.place < b.header.place; });
    for (const Entry& entry : entries) {
      records->Write(static_cast<std::uint64_t>(entry.header.index) + 1,
                     {static_cast<float>(entry.header.identity)}, entry.image);
    }
  }

  // By identity, if their images follow each other; else none.
  std::vector<std::int64_t> FirstKeys() const {
    const IdentityImages grouped = set_.ImagesByIdentity();
    for (std::size_t i = 0; i < grouped.images.size(); ++i) {
      if (grouped.images[i] != i) return {};
    }
    std::vector<std::int64_t> first_keys;
    for (std::int64_t i = 0; i < grouped.num_identities(); ++i) {
      first_keys.push_back(grouped.begin[static_cast<std::size_t>(i)] + 1);
    }
    return first_keys;
  }

  const TrainingSet& set_;
  fs::path out_;
  const ShuffleOptions& options_;
  std::int64_t num_buckets_;
  std::string fingerprint_;
};

}  // namespace

void ShuffleSet(const fs::path& set, const fs::path& out, const ShuffleOptions& options) {
  Shuffler(*OpenTrainingSet(set), out, options).Run();
}

}  // namespace fr
