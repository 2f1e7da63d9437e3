#include "worker/data/verification/verification_pairs.h"

#include <algorithm>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/random.h"

namespace fr {
namespace {

// For each identity, how much all before it have; then the sum of all.
using Begins = std::vector<std::int64_t>;

Begins Accumulate(const std::vector<std::int64_t>& images_per_identity,
                  std::int64_t (*amount)(std::int64_t images)) {
  Begins begins = {0};
  for (const std::int64_t images : images_per_identity) {
    begins.push_back(begins.back() + amount(images));
  }
  return begins;
}

// The identity in which number `at` of what was accumulated lies.
std::size_t OwnerOf(const Begins& begins, std::int64_t at) {
  return static_cast<std::size_t>(std::upper_bound(begins.begin(), begins.end(), at) -
                                  begins.begin() - 1);
}

// `count` numbers of [0, total), ascending, none twice (Floyd's algorithm).
std::vector<std::int64_t> Draw(std::int64_t total, std::int64_t count, Random& random) {
  std::set<std::int64_t> chosen;
  for (std::int64_t j = total - count; j < total; ++j) {
    if (!chosen.insert(random.Below(j + 1)).second) chosen.insert(j);
  }
  return {chosen.begin(), chosen.end()};
}

// Pair number `index` of those of one identity with `images` images: (0, 1), (0, 2) ... (1, 2) ...
VerificationPair SamePair(std::int64_t index, std::int64_t images) {
  std::int64_t a = 0;
  while (index >= images - 1 - a) index -= images - 1 - a++;
  return {a, a + 1 + index, true};
}

// `count` different pairs of two identities, or all if there are fewer.
std::vector<VerificationPair> DifferentPairs(const Begins& images, std::int64_t count,
                                             Random& random) {
  std::int64_t possible = 0;
  for (std::size_t i = 0; i + 1 < images.size(); ++i) {
    possible += images[i] * (images[i + 1] - images[i]);
  }
  std::set<std::pair<std::int64_t, std::int64_t>> chosen;
  std::vector<VerificationPair> pairs;
  while (std::ssize(pairs) < std::min(count, possible)) {
    std::int64_t a = random.Below(images.back());
    std::int64_t b = random.Below(images.back());
    if (a > b) std::swap(a, b);
    if (OwnerOf(images, a) == OwnerOf(images, b)) continue;
    if (chosen.insert({a, b}).second) pairs.push_back({a, b, false});
  }
  return pairs;
}

}  // namespace

std::vector<VerificationPair> MakePairs(const std::vector<std::int64_t>& images_per_identity,
                                        std::int64_t max_pairs, std::uint64_t seed) {
  Random random(seed);
  const Begins images = Accumulate(images_per_identity, [](std::int64_t n) { return n; });
  // There may be billions: they are numbered, not listed.
  const Begins same =
      Accumulate(images_per_identity, [](std::int64_t n) { return n * (n - 1) / 2; });
  const std::int64_t wanted = std::min(same.back(), max_pairs / 2);
  const std::vector<VerificationPair> different = DifferentPairs(images, wanted, random);
  const std::vector<std::int64_t> chosen =
      Draw(same.back(), std::min<std::int64_t>(wanted, std::ssize(different)), random);
  if (chosen.size() < 5) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} identities give {} pairs, and ten are the least: more identities "
                            "are needed, with two images or more each",
                            images_per_identity.size(), 2 * chosen.size()));
  }
  std::vector<VerificationPair> pairs;
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    const std::size_t owner = OwnerOf(same, chosen[i]);
    VerificationPair pair = SamePair(chosen[i] - same[owner], images_per_identity[owner]);
    pair.first += images[owner];
    pair.second += images[owner];
    pairs.push_back(pair);
    pairs.push_back(different[i]);
  }
  return pairs;
}

}  // namespace fr
