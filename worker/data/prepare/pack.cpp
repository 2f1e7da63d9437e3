#include "worker/data/prepare/pack.h"

#include <algorithm>
#include <mutex>
#include <numeric>
#include <utility>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/parallel.h"
#include "common/base/random.h"
#include "worker/data/folders/picture_folder.h"
#include "worker/data/records/record_set_writer.h"
#include "worker/data/training_set.h"
#include "worker/data/verification/verification_pairs.h"
#include "worker/data/verification/verification_set.h"
#include "worker/data/verification/verification_set_writer.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

// Read at a time by each thread, so that all have work where identities have few pictures each.
constexpr std::int64_t kPicturesPerThread = 32;

// Takes `count` of the identities, drawn at random, out of the list; both stay in order.
std::vector<IdentityFolder> HoldOut(std::vector<IdentityFolder>* identities, std::int64_t count,
                                    std::uint64_t seed) {
  if (count >= std::ssize(*identities)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} identities cannot be held out of {}: at least one must be left to "
                            "train on",
                            count, identities->size()));
  }
  Random random(seed);
  std::vector<IdentityFolder> kept;
  std::vector<IdentityFolder> held_out;
  std::int64_t wanted = count;
  for (std::size_t i = 0; i < identities->size(); ++i) {
    const auto left = static_cast<std::int64_t>(identities->size() - i);
    const bool take = random.Below(left) < wanted;
    if (take) --wanted;
    (take ? held_out : kept).push_back(std::move((*identities)[i]));
  }
  *identities = std::move(kept);
  return held_out;
}

std::int64_t CountPictures(const std::vector<IdentityFolder>& identities) {
  return std::accumulate(
      identities.begin(), identities.end(), std::int64_t{0},
      [](std::int64_t sum, const IdentityFolder& one) { return sum + one.num_pictures(); });
}

class Packer {
 public:
  Packer(const fs::path& folder, const fs::path& directory, const PackOptions& options)
      : folder_(folder), directory_(directory), options_(options) {}

  PackedSet Run() {
    PictureFolder listed = ListPictureFolder(folder_);
    const std::vector<IdentityFolder> held_out =
        HoldOut(&listed.identities, options_.held_out_identities, options_.seed);
    const ResumeOptions resume = {Fingerprint(listed), options_.checkpoint_bytes};
    RecordSetWriter writer(directory_, resume, true);
    writer.TellStart(options_.report);
    for (const IdentityFolder& identity : held_out) packed_.held_out.push_back(identity.name);
    if (!writer.complete()) Write(listed.identities, held_out, resume, &writer);
    CountWhatIsThere();
    return std::move(packed_);
  }

 private:
  fs::path VerificationPath() const { return directory_ / (options_.verification_name + ".bin"); }

  // Everything that the files depend on. Not `skip_broken`: up to a broken picture, they are the
  // same, and whoever meets one wants to go on without it.
  std::string Fingerprint(const PictureFolder& listed) const {
    return fmt::format("pack\n{}\n{}\n{} {} {} {} {}\n{}", fs::absolute(folder_).string(),
                       listed.checksum, options_.held_out_identities, options_.verification_name,
                       options_.max_pairs, options_.seed, options_.side, options_.prepare_key);
  }

  void Write(const std::vector<IdentityFolder>& identities,
             const std::vector<IdentityFolder>& held_out, const ResumeOptions& resume,
             RecordSetWriter* writer) {
    // The verification set comes first, and a checkpoint says that it is done.
    if (writer->place() > 0) {
      RefuseToForgetBroken(writer->Remarks());
    } else {
      if (!held_out.empty()) WriteVerification(held_out, resume);
      for (const std::string& line : TakeBroken()) writer->AddRemark(line);
    }
    WriteTraining(identities, writer);
  }

  void RefuseToForgetBroken(const std::vector<std::string>& broken) const {
    if (options_.skip_broken || broken.empty()) return;
    throw Error(ErrorCode::kFailedPrecondition,
                fmt::format("{}: an earlier run, which was stopped, left out {} broken pictures, "
                            "the first of them {}; go on with --skip-broken, or remove {} to start "
                            "anew",
                            directory_.string(), broken.size(), broken.front(),
                            (directory_ / "train.rec.journal").string()));
  }

  // The picture as it goes into the set.
  std::string LoadPicture(const fs::path& path) const {
    const std::string bytes = ReadFile(path);
    try {
      Image image = DecodeImage(bytes);
      if (options_.prepare) image = options_.prepare(path, std::move(image));
      const int side = options_.side;
      const bool fits = image.height == side && image.width == side;
      if (fits && !options_.prepare && PictureExtension(bytes) == ".jpg") return bytes;
      return EncodeForSet(image, side);
    } catch (const Error& error) {
      throw Error(error.code(), fmt::format("{}: {}", path.string(), error.what()));
    }
  }

  // What becomes of each picture; empty for a broken one that is left out.
  std::vector<std::string> LoadPictures(const std::vector<fs::path>& pictures) {
    std::vector<std::string> images(pictures.size());
    std::mutex mutex;
    ParallelFor(std::ssize(images), options_.threads, [&](std::int64_t i) {
      const auto index = static_cast<std::size_t>(i);
      try {
        images[index] = LoadPicture(pictures[index]);
      } catch (const Error& error) {
        if (!options_.skip_broken || error.code() != ErrorCode::kDataLoss) throw;
        const std::lock_guard lock(mutex);
        broken_.emplace_back(error.what());
      }
    });
    return images;
  }

  std::vector<std::string> TakeBroken() {
    std::sort(broken_.begin(), broken_.end());
    return std::exchange(broken_, {});
  }

  // Pictures of the identities from number `*next` on, some hundred of them; `*next` moves on.
  struct Batch {
    std::vector<std::size_t> owners;  // number of the identity, of each picture
    std::vector<fs::path> pictures;
  };
  Batch ListBatch(const std::vector<IdentityFolder>& identities, std::size_t* next) const {
    Batch batch;
    const std::int64_t wanted = kPicturesPerThread * options_.threads;
    while (*next < identities.size() && std::ssize(batch.pictures) < wanted) {
      for (const std::string& picture : identities[*next].pictures) {
        batch.owners.push_back(*next);
        batch.pictures.push_back(folder_ / identities[*next].name / picture);
      }
      ++*next;
    }
    return batch;
  }

  // `writer` stands at identity writer->place() of the list.
  void WriteTraining(const std::vector<IdentityFolder>& identities, RecordSetWriter* writer) {
    const std::int64_t total = CountPictures(identities);
    auto next = static_cast<std::size_t>(writer->place());
    std::int64_t done = CountPictures({identities.begin(), identities.begin() + writer->place()});
    while (next < identities.size()) {
      options_.report.progress(done, total);
      const std::size_t first = next;
      const Batch batch = ListBatch(identities, &next);
      std::vector<std::string> images;
      try {
        images = LoadPictures(batch.pictures);
      } catch (const Error&) {
        // Whoever mends or leaves out the picture need not wait for all before it again.
        if (first > 0) writer->Checkpoint(static_cast<std::int64_t>(first));
        throw;
      }
      AddBatch(identities, batch, &images, writer);
      done += std::ssize(batch.pictures);
      if (writer->CheckpointDue()) writer->Checkpoint(static_cast<std::int64_t>(next));
    }
    options_.report.progress(total, total);
    if (writer->num_images() == 0) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{}: no pictures are left to train on", folder_.string()));
    }
    packed_.broken = writer->Remarks();
    writer->Finish(options_.side, options_.side);
  }

  void AddBatch(const std::vector<IdentityFolder>& identities, const Batch& batch,
                std::vector<std::string>* images, RecordSetWriter* writer) {
    for (std::size_t i = 0; i < images->size();) {
      const std::size_t owner = batch.owners[i];
      std::vector<std::string> own;
      for (; i < images->size() && batch.owners[i] == owner; ++i) {
        if (!(*images)[i].empty()) own.push_back(std::move((*images)[i]));
      }
      if (!own.empty()) writer->AddIdentity(own, identities[owner].name);
    }
    for (const std::string& line : TakeBroken()) writer->AddRemark(line);
  }

  // Only names are kept; the images of the pairs are read again one after the other.
  void WriteVerification(const std::vector<IdentityFolder>& identities,
                         const ResumeOptions& resume) {
    std::vector<fs::path> pictures;
    std::vector<std::int64_t> counts;
    for (std::size_t next = 0; next < identities.size();) {
      const Batch batch = ListBatch(identities, &next);
      const std::vector<std::string> images = LoadPictures(batch.pictures);
      counts.resize(next, 0);
      for (std::size_t i = 0; i < images.size(); ++i) {
        if (images[i].empty()) continue;
        pictures.push_back(batch.pictures[i]);
        ++counts[batch.owners[i]];
      }
    }
    const auto pairs = MakePairs(counts, options_.max_pairs, options_.seed);
    WriteVerificationSet(
        VerificationPath(), pairs,
        [&](std::int64_t i) { return LoadPicture(pictures[static_cast<std::size_t>(i)]); },
        {options_.threads, true, resume, {}});
  }

  void CountWhatIsThere() {
    const auto set = OpenTrainingSet(directory_);
    packed_.num_images = set->num_images();
    packed_.num_identities = set->num_identities();
    if (!packed_.held_out.empty()) {
      packed_.num_pairs = VerificationSet::Open(VerificationPath()).num_pairs();
    }
  }

  const fs::path& folder_;
  const fs::path& directory_;
  const PackOptions& options_;
  PackedSet packed_;
  std::vector<std::string> broken_;
};

}  // namespace

PackedSet PackFolder(const fs::path& folder, const fs::path& directory,
                     const PackOptions& options) {
  return Packer(folder, directory, options).Run();
}

}  // namespace fr
