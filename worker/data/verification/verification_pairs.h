#pragma once
// Pairs for a verification set, drawn at random.

#include <cstdint>
#include <vector>

namespace fr {

// Two images of a verification set, by whatever index the caller has for images.
struct VerificationPair {
  std::int64_t first = 0;
  std::int64_t second = 0;
  bool same = false;
};

// Pairs for a set of identities with `images_per_identity[i]` images each, numbered through in that
// order. As many pairs of one identity as there are, of which at most `max_pairs` / 2 are drawn,
// and as many of two identities; none twice, the two kinds in turn, so that each of the ten folds
// has both. Deterministic in `seed`. Throws Error(kInvalidArgument) if fewer than ten pairs come
// out.
std::vector<VerificationPair> MakePairs(const std::vector<std::int64_t>& images_per_identity,
                                        std::int64_t max_pairs, std::uint64_t seed);

}  // namespace fr
