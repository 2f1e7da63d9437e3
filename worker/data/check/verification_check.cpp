// CheckVerificationSet of worker/data/check/set_check.h.

#include <algorithm>
#include <fstream>
#include <map>
#include <tuple>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/parallel.h"
#include "worker/data/check/set_check.h"
#include "worker/data/images/image.h"
#include "worker/data/verification/verification_set.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kImagesAtATime = 512;

struct Look {
  Checksum128 checksum;
  int height = 0;  // 0: broken
  int width = 0;
  std::string cause;
};

Look LookAt(std::string_view bytes) {
  Look look;
  look.checksum = Checksum128Of(bytes);
  try {
    const Image image = DecodeImage(bytes);
    look.height = image.height;
    look.width = image.width;
  } catch (const Error& error) {
    look.cause = error.what();
  }
  return look;
}

std::vector<Look> LookAtAll(const VerificationSet& set, const CheckOptions& options) {
  std::vector<Look> looks(static_cast<std::size_t>(set.num_images()));
  ParallelFor(set.num_images(), options.threads, kImagesAtATime, options.report,
              [&](std::int64_t i) { looks[static_cast<std::size_t>(i)] = LookAt(set.image(i)); });
  return looks;
}

void FindBroken(const VerificationSet& set, const std::vector<Look>& looks,
                VerificationSetCheck* check) {
  std::map<std::pair<int, int>, std::int64_t> sizes;
  for (const Look& look : looks) {
    if (look.height > 0) ++sizes[{look.height, look.width}];
  }
  const auto most = std::max_element(
      sizes.begin(), sizes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  if (most != sizes.end()) std::tie(check->height, check->width) = most->first;
  for (std::size_t i = 0; i < looks.size(); ++i) {
    const Look& look = looks[i];
    const auto index = static_cast<std::int64_t>(i);
    ImageFault fault;
    fault.index = index;
    fault.where = fmt::format("{}: {} image of pair {}", set.path().string(),
                              i % 2 == 0 ? "first" : "second", i / 2);
    fault.cause = look.cause;
    if (look.height == 0) {
      check->broken.push_back(fault);
    } else if (look.height != check->height || look.width != check->width) {
      fault.cause = fmt::format("{} x {} pixels", look.width, look.height);
      check->wrong_size.push_back(fault);
    }
  }
}

void ComparePairs(const VerificationSet& set, const std::vector<Look>& looks,
                  VerificationSetCheck* check) {
  // The two images, whichever comes first, the answer, and which pair it is.
  using Pair = std::tuple<Checksum128, Checksum128, std::uint8_t, std::int64_t>;
  std::vector<Pair> pairs;
  for (std::int64_t i = 0; i < set.num_pairs(); ++i) {
    const auto at = static_cast<std::size_t>(i);
    const auto [a, b] = std::minmax(looks[2 * at].checksum, looks[2 * at + 1].checksum);
    if (a == b) check->identical_pairs.push_back(i);
    pairs.emplace_back(a, b, set.same()[at], i);
  }
  std::sort(pairs.begin(), pairs.end());
  for (std::size_t begin = 0; begin < pairs.size();) {
    std::size_t end = begin + 1;
    const auto same_images = [&pairs](std::size_t x, std::size_t y) {
      return std::get<0>(pairs[x]) == std::get<0>(pairs[y]) &&
             std::get<1>(pairs[x]) == std::get<1>(pairs[y]);
    };
    while (end < pairs.size() && same_images(begin, end)) ++end;
    if (std::get<2>(pairs[begin]) != std::get<2>(pairs[end - 1])) {
      for (; begin < end; ++begin) check->contradicting_pairs.push_back(std::get<3>(pairs[begin]));
    }
    begin = end;
  }
  std::sort(check->contradicting_pairs.begin(), check->contradicting_pairs.end());
}

// All protocols of Python's pickle that hold such a pair begin with one of these.
bool LooksLikePickle(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  const int first = file.get();
  return first == 0x80 || first == '(' || first == ']';
}

}  // namespace

bool VerificationSetCheck::ok() const {
  return unreadable.empty() && broken.empty() && wrong_size.empty() && identical_pairs.empty() &&
         contradicting_pairs.empty();
}

VerificationSetCheck CheckVerificationSet(const fs::path& path, const CheckOptions& options) {
  VerificationSetCheck check;
  check.path = path;
  std::optional<VerificationSet> set;
  try {
    set = VerificationSet::Open(path);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kDataLoss) throw;
    if (!LooksLikePickle(path)) throw Error(ErrorCode::kInvalidArgument, error.what());
    check.unreadable = error.what();
    return check;
  }
  check.num_pairs = set->num_pairs();
  const std::vector<Look> looks = LookAtAll(*set, options);
  FindBroken(*set, looks, &check);
  ComparePairs(*set, looks, &check);
  return check;
}

}  // namespace fr
