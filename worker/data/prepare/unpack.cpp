#include "worker/data/prepare/unpack.h"

#include <algorithm>
#include <cerrno>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/parallel.h"
#include "worker/data/folders/identity_names.h"
#include "worker/data/images/image.h"
#include "worker/data/records/record_set.h"
#include "worker/data/storage_order.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kImagesPerThread = 256;  // written between two reports

std::string_view ExtensionOf(std::string_view image) {
  const std::string_view extension = PictureExtension(image);
  return extension.empty() ? ".unknown" : extension;
}

// Not synced one by one, which would take days for millions: SyncAll does it in the end. After a
// crash of the machine a file may therefore be there and end too early.
void WriteImage(const fs::path& path, std::string_view bytes) {
  if (fs::exists(path)) {
    const std::string there = ReadFile(path);
    if (there == bytes) return;
    if (!bytes.starts_with(there)) {
      throw Error(ErrorCode::kFailedPrecondition,
                  fmt::format("{}: is there already, and is another image than the set's; unpack "
                              "into an empty folder",
                              path.string()));
    }
  }
  const fs::path partial = path.string() + ".partial";
  {
    const FileDescriptor file(
        open(partial.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (!file.valid()) {
      throw Error(ErrorCode::kIo,
                  fmt::format("{}: cannot be written: {}", partial.string(), ErrnoText()));
    }
    WriteAll(file.get(), bytes, partial);
  }
  if (rename(partial.c_str(), path.c_str()) != 0) {
    throw Error(ErrorCode::kIo,
                fmt::format("{}: cannot be written: {}", path.string(), ErrnoText()));
  }
}

void SyncAll(const fs::path& folder) {
  const FileDescriptor handle(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!handle.valid() || syncfs(handle.get()) != 0) {
    throw Error(ErrorCode::kIo,
                fmt::format("{}: cannot be synced: {}", folder.string(), ErrnoText()));
  }
}

// write(0) to write(count - 1), on all threads.
void WriteEach(std::int64_t count, const UnpackOptions& options,
               const std::function<void(std::int64_t)>& write) {
  ParallelFor(count, options.threads, kImagesPerThread * options.threads, options.report, write);
}

// One a label, all different.
std::vector<std::string> FolderNames(const TrainingSet& set) {
  std::vector<std::string> names = ReadIdentityNames(set.path(), set.num_identities());
  if (names.empty()) {
    for (std::int64_t i = 0; i < set.num_identities(); ++i) names.push_back(fmt::format("{}", i));
    return names;
  }
  std::set<std::string> taken;
  for (std::size_t label = 0; label < names.size(); ++label) {
    names[label] = SafeFileName(names[label]);
    // No safe name has a % before such a letter.
    if (!taken.insert(names[label]).second) names[label] += fmt::format("%L{}", label);
  }
  return names;
}

}  // namespace

void UnpackTrainingSet(const TrainingSet& set, const fs::path& out, const UnpackOptions& options) {
  const std::vector<std::string> names = FolderNames(set);
  const StorageOrder order(set);
  const auto* records = dynamic_cast<const RecordSet*>(&set);
  MakeDirectories(out);
  WriteEach(set.num_images(), options, [&](std::int64_t place) {
    const std::int64_t index = order[place];
    Sample sample;
    set.Read(index, &sample);
    const fs::path folder = out / names[static_cast<std::size_t>(sample.identity)];
    MakeDirectories(folder);
    const std::uint64_t key =
        records != nullptr ? records->KeyOf(index) : static_cast<std::uint64_t>(index);
    WriteImage(folder / fmt::format("{}{}", key, ExtensionOf(sample.image)), sample.image);
  });
  SyncAll(out);
}

void UnpackVerificationSet(const VerificationSet& set, const fs::path& out,
                           const UnpackOptions& options) {
  const auto name = [&set](std::int64_t image) {
    return fmt::format("{:05}{}", image, ExtensionOf(set.image(image)));
  };
  MakeDirectories(out);
  WriteEach(set.num_images(), options,
            [&](std::int64_t image) { WriteImage(out / name(image), set.image(image)); });
  SyncAll(out);
  std::string csv = "first,second,same\n";
  for (std::int64_t pair = 0; pair < set.num_pairs(); ++pair) {
    csv += fmt::format("{},{},{}\n", name(2 * pair), name(2 * pair + 1),
                       set.same()[static_cast<std::size_t>(pair)]);
  }
  WriteFileAtomically(out / "pairs.csv", csv);
}

}  // namespace fr
