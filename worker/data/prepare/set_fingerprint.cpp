#include "worker/data/prepare/set_fingerprint.h"

#include <filesystem>
#include <map>

#include <fmt/format.h>

#include "common/base/checksum.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

bool HoldsImages(const fs::path& path) {
  const std::string name = path.filename().string();
  return name == "train.rec" || name == "train.idx" || name == "property" ||
         path.extension() == ".tar";
}

}  // namespace

std::string FingerprintOf(const TrainingSet& set) {
  const bool by_name = LayoutAt(set.path()) == SetLayout::kFolder;
  Checksum positions;
  for (std::int64_t i = 0; i < set.num_images(); ++i) {
    const std::uint64_t position = set.StoragePosition(i);
    positions.Update(&position, sizeof(position));
    if (!by_name) continue;
    const std::string name = set.Describe(i);
    positions.Update(name.c_str(), name.size() + 1);
  }
  std::map<std::string, std::string> files;  // in an order that the file system does not choose
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(set.path(), ignored)) {
    if (!HoldsImages(entry.path()) || !entry.is_regular_file()) continue;
    files[entry.path().filename().string()] =
        fmt::format("{} {}", entry.file_size(), entry.last_write_time().time_since_epoch().count());
  }
  std::string text =
      fmt::format("{}\n{} {} {} {}\n{}\n", fs::absolute(set.path()).string(), set.num_images(),
                  set.num_identities(), set.height(), set.width(), positions.Value());
  for (const auto& [name, state] : files) text += fmt::format("{} {}\n", name, state);
  return text;
}

}  // namespace fr
