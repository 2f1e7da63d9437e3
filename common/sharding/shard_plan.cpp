#include "common/sharding/shard_plan.h"

#include <algorithm>
#include <cstddef>
#include <queue>

#include <fmt/format.h>

#include "common/base/error.h"

namespace fr {
namespace {

// Wide enough for any product or sum of the 64-bit numbers here.
__extension__ typedef __int128 Int128;

void CheckPositive(std::int64_t value, const char* what) {
  if (value > 0) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("shard plan: {} is {}; it must be positive", what, value));
}

// Whole rows only: what is left over on a rank cannot hold a part of one.
void CheckCapacity(std::int64_t num_identities, std::int64_t bytes_per_identity,
                   const std::vector<std::int64_t>& capacity_bytes) {
  Int128 rows = 0;
  for (const std::int64_t capacity : capacity_bytes) rows += capacity / bytes_per_identity;
  if (rows >= num_identities) return;
  const Int128 lacking = (Int128{num_identities} - rows) * bytes_per_identity;
  throw Error(ErrorCode::kResourceExhausted,
              fmt::format("the head's {} identities of {} bytes each do not fit into the memory of "
                          "{} workers: {} bytes lack; add workers or memory, or make "
                          "model.embedding_size smaller",
                          num_identities, bytes_per_identity, capacity_bytes.size(), lacking));
}

// A rank that could take one identity more.
struct Candidate {
  Int128 identities;  // with that one
  std::int64_t capacity;
  std::size_t rank;

  // Orders a max-heap so that the least load comes first, then the lowest rank.
  bool operator<(const Candidate& other) const {
    const Int128 mine = identities * other.capacity;
    const Int128 theirs = other.identities * capacity;
    return mine != theirs ? mine > theirs : rank > other.rank;
  }
};

// D'Hondt's method, which makes the largest share/capacity least. It never gives less than the
// rounded-down proportional share, so that many are handed out at once and only the rest, fewer
// than the ranks, one by one.
std::vector<std::int64_t> ProportionalShares(std::int64_t num_identities,
                                             const std::vector<std::int64_t>& capacity_bytes) {
  Int128 total = 0;
  for (const std::int64_t capacity : capacity_bytes) total += capacity;
  std::vector<std::int64_t> shares;
  std::priority_queue<Candidate> candidates;
  std::int64_t rest = num_identities;
  for (const std::int64_t capacity : capacity_bytes) {
    const auto share = static_cast<std::int64_t>(Int128{num_identities} * capacity / total);
    candidates.push({Int128{share} + 1, capacity, shares.size()});
    shares.push_back(share);
    rest -= share;
  }
  for (; rest > 0; --rest) {
    Candidate best = candidates.top();
    candidates.pop();
    shares[best.rank] += 1;
    best.identities += 1;
    candidates.push(best);
  }
  return shares;
}

}  // namespace

ShardPlan PlanShards(std::int64_t num_identities, std::int64_t bytes_per_identity,
                     const std::vector<std::int64_t>& capacity_bytes) {
  CheckPositive(num_identities, "the number of identities");
  CheckPositive(bytes_per_identity, "the size of an identity's row");
  CheckPositive(static_cast<std::int64_t>(capacity_bytes.size()), "the number of workers");
  for (std::size_t rank = 0; rank < capacity_bytes.size(); ++rank) {
    CheckPositive(capacity_bytes[rank],
                  fmt::format("the memory (in bytes) that rank {} offers", rank).c_str());
  }
  CheckCapacity(num_identities, bytes_per_identity, capacity_bytes);

  ShardPlan plan;
  plan.num_identities = num_identities;
  std::int64_t next = 0;
  for (const std::int64_t share : ProportionalShares(num_identities, capacity_bytes)) {
    plan.ranges.push_back({next, next + share});
    next += share;
  }
  return plan;
}

void CheckShardPlan(const ShardPlan& plan) {
  std::int64_t next = 0;
  for (std::size_t rank = 0; rank < plan.ranges.size(); ++rank) {
    const IdentityRange& range = plan.ranges[rank];
    if (range.begin != next || range.end < range.begin) {
      throw Error(ErrorCode::kDataLoss,
                  fmt::format("shard plan: rank {} owns identities [{}, {}), but its range must "
                              "begin at {} and not end before it",
                              rank, range.begin, range.end, next));
    }
    next = range.end;
  }
  if (next != plan.num_identities || plan.ranges.empty()) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("shard plan: its {} ranges end at identity {}, but there are {}",
                            plan.ranges.size(), next, plan.num_identities));
  }
}

std::vector<ShardSlice> PlanReshard(const std::vector<IdentityRange>& old_ranges,
                                    IdentityRange wanted) {
  if (wanted.end < wanted.begin) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("re-sharding: the wanted range [{}, {}) ends before it begins",
                            wanted.begin, wanted.end));
  }
  std::vector<std::size_t> by_begin;
  for (std::size_t i = 0; i < old_ranges.size(); ++i) by_begin.push_back(i);
  std::stable_sort(by_begin.begin(), by_begin.end(), [&](std::size_t a, std::size_t b) {
    return old_ranges[a].begin < old_ranges[b].begin;
  });

  std::vector<ShardSlice> slices;
  std::int64_t next = wanted.begin;
  for (const std::size_t source : by_begin) {
    const IdentityRange& range = old_ranges[source];
    if (next >= wanted.end || range.begin > next) break;
    if (range.end <= next) continue;
    const std::int64_t end = std::min(range.end, wanted.end);
    slices.push_back({static_cast<int>(source), {next, end}});
    next = end;
  }
  if (next < wanted.end) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("re-sharding: no old shard holds identity {}, which is wanted as part "
                            "of [{}, {})",
                            next, wanted.begin, wanted.end));
  }
  return slices;
}

ShardPlanProto ToProto(const ShardPlan& plan) {
  ShardPlanProto proto;
  proto.set_num_identities(plan.num_identities);
  proto.set_generation(plan.generation);
  for (const IdentityRange& range : plan.ranges) {
    ShardPlanProto::Range* added = proto.add_ranges();
    added->set_begin(range.begin);
    added->set_end(range.end);
  }
  return proto;
}

ShardPlan FromProto(const ShardPlanProto& proto) {
  ShardPlan plan;
  plan.num_identities = proto.num_identities();
  plan.generation = proto.generation();
  for (const ShardPlanProto::Range& range : proto.ranges()) {
    plan.ranges.push_back({range.begin(), range.end()});
  }
  CheckShardPlan(plan);
  return plan;
}

}  // namespace fr
