#include "worker/data/check/inspect.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "worker/data/images/image.h"
#include "worker/data/training_set.h"
#include "worker/data/verification/verification_set.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

std::string DescribeSize(std::string_view encoded, const std::string& where) {
  try {
    const Image image = DecodeImage(encoded);
    return fmt::format("{} x {} pixels", image.width, image.height);
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("{}: {}", where, error.what()));
  }
}

const char* LayoutText(SetLayout layout) {
  switch (layout) {
    case SetLayout::kRecords:
      return "records (train.rec)";
    case SetLayout::kShards:
      return "shards (*.tar)";
    case SetLayout::kFolder:
      break;
  }
  return "a folder of pictures for each identity";
}

std::string DescribeTrainingSet(const fs::path& path) {
  const auto set = OpenTrainingSet(path);
  const ImageSize size = SizeOfFirstImage(*set);
  std::string text = fmt::format(
      "{}\n  layout      {}\n  identities  {}\n  images      {}, the first of {} x {} pixels\n",
      path.string(), LayoutText(LayoutAt(path)), set->num_identities(), set->num_images(),
      size.width, size.height);
  std::vector<std::int64_t> counts = set->ImagesByIdentity().counts();
  std::sort(counts.begin(), counts.end());
  text += fmt::format("  images per identity: {} at least, {} in the middle, {} at most\n",
                      counts.front(), counts[counts.size() / 2], counts.back());
  return text;
}

std::string DescribeVerificationSet(const fs::path& path) {
  const VerificationSet set = VerificationSet::Open(path);
  const auto same = std::accumulate(set.same().begin(), set.same().end(), std::int64_t{0});
  return fmt::format(
      "{}\n  pairs       {}: {} of one identity, {} of two\n  images      the first "
      "of {}\n",
      path.string(), set.num_pairs(), same, set.num_pairs() - same,
      DescribeSize(set.image(0), path.string()));
}

}  // namespace

std::string DescribeData(const fs::path& path) {
  if (!fs::exists(path)) {
    throw Error(ErrorCode::kNotFound, fmt::format("{}: no such file or directory", path.string()));
  }
  if (LowerExtension(path) == ".tar") return DescribeTrainingSet(path);
  if (!fs::is_directory(path)) return DescribeVerificationSet(path);
  std::string text = DescribeTrainingSet(path);
  std::vector<fs::path> sets;
  for (const fs::directory_entry& entry : fs::directory_iterator(path)) {
    if (entry.path().extension() == ".bin") sets.push_back(entry.path());
  }
  std::sort(sets.begin(), sets.end());
  for (const fs::path& set : sets) text += DescribeVerificationSet(set);
  return text;
}

}  // namespace fr
