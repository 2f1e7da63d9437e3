#pragma once
// Splits the identities of a training set over the ranks of a job.

#include <cstdint>
#include <vector>

#include "proto/shard_plan.pb.h"

namespace fr {

// Identities [begin, end) of the training set; one row of the head's weight each.
struct IdentityRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t size() const { return end - begin; }
  bool operator==(const IdentityRange&) const = default;
};

// One contiguous range per rank, in rank order: they cover [0, num_identities)
// without gap or overlap. `generation` grows by one whenever the world changes;
// a worker that presents an older one is turned away.
struct ShardPlan {
  std::int64_t num_identities = 0;
  std::int32_t generation = 0;
  std::vector<IdentityRange> ranges;
  bool operator==(const ShardPlan&) const = default;
};

// Divides `num_identities` in proportion to `capacity_bytes[rank]` (memory each rank offers
// to the head), rounded so that the largest relative load is least; equal capacities give ranges
// whose sizes differ by one at most. A rank may receive none. Throws Error(kInvalidArgument) for no
// ranks or a number that is not positive, Error(kResourceExhausted) if the ranks together cannot
// hold the head in whole rows, naming the bytes that lack. The plan's generation is 0.
ShardPlan PlanShards(std::int64_t num_identities, std::int64_t bytes_per_identity,
                     const std::vector<std::int64_t>& capacity_bytes);

// Throws Error(kDataLoss) unless the ranges cover [0, num_identities) in order, without gap or
// overlap.
void CheckShardPlan(const ShardPlan& plan);

// A piece of an old shard that a new shard needs: identities `part` of old range `source`.
struct ShardSlice {
  int source = 0;  // index into the old ranges
  IdentityRange part;
  bool operator==(const ShardSlice&) const = default;
};

// Which slices of `old_ranges` (in any order; where they overlap, the one that begins first counts)
// make up `wanted`, ascending and none of them empty. Throws Error(kDataLoss) if the old ranges do
// not cover it.
std::vector<ShardSlice> PlanReshard(const std::vector<IdentityRange>& old_ranges,
                                    IdentityRange wanted);

ShardPlanProto ToProto(const ShardPlan& plan);
// Throws Error(kDataLoss) for a plan that CheckShardPlan refuses.
ShardPlan FromProto(const ShardPlanProto& proto);

}  // namespace fr
