#pragma once
// Identities of two sets, or of one, that are the same person.

#include <functional>

#include "worker/dedupe/centre_file.h"
#include "worker/dedupe/match.h"

namespace fr {

// Calls visit(match), on this thread, for every identity a of `left` and b of `right` whose centres
// have a cosine of at least `threshold` > 0: the rule by which InsightFace's challenges remove
// overlapping identities. `within`: both are the same set, and each pair comes once, with a < b. A
// blockwise product: memory does not grow with the sets. `progress(done, total)` counts identities
// of `left`. Throws Error(kInvalidArgument) for centres of different dimensions.
void FindOverlaps(const CentreFile& left, const CentreFile& right, bool within, double threshold,
                  const std::function<void(const Match&)>& visit,
                  const std::function<void(std::int64_t, std::int64_t)>& progress);

}  // namespace fr
