#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "common/cli/table.h"
#include "common/cli/text.h"
#include "coordinator/api/json.h"
#include "coordinator/cli/frctl_commands.h"
#include "coordinator/cli/job_client.h"

namespace fr {
namespace {

std::string PlanText(const ShardPlanProto& plan) {
  return fmt::format("plan {}: {} identities on {} rank{}", plan.generation(),
                     CountText(plan.num_identities()), CountText(plan.ranges_size()),
                     plan.ranges_size() == 1 ? "" : "s");
}

std::vector<std::string> RankRow(const GetShardsReply& reply, const ShardPlanProto& plan,
                                 int rank) {
  const std::int64_t begin = plan.ranges(rank).begin();
  const std::int64_t size = plan.ranges(rank).end() - begin;
  const double share = plan.num_identities() > 0
                           ? static_cast<double>(size) / static_cast<double>(plan.num_identities())
                           : 0;
  // An attempt that has not asked for its plan yet may have another number of ranks.
  const bool knows_nodes = reply.rank_nodes_size() == plan.ranges_size();
  const bool knows_targets = reply.rank_targets_size() == plan.ranges_size();
  return {CountText(rank),
          knows_nodes ? reply.rank_nodes(rank) : "-",
          CountText(begin),
          CountText(begin + size),
          CountText(size),
          PercentText(share),
          plan.bytes_per_identity() > 0 ? BytesText(size * plan.bytes_per_identity()) : "-",
          knows_targets ? PercentText(reply.rank_targets(rank)) : "-"};
}

}  // namespace

void PrintShards(JobClient& client, const std::string& job_id, OutputFormat format) {
  const GetShardsReply reply = client.Shards(job_id);
  if (format == OutputFormat::kJson) return PrintJson(ShardsJson(reply));
  if (reply.plans().empty()) {
    fmt::print(stderr, "{} has no shard plan yet: its workers make one from the data set\n",
               job_id);
    return;
  }
  const ShardPlanProto& plan = *reply.plans().rbegin();
  std::vector<std::vector<std::string>> rows;
  rows.reserve(static_cast<std::size_t>(plan.ranges_size()));
  for (int rank = 0; rank < plan.ranges_size(); ++rank) rows.push_back(RankRow(reply, plan, rank));
  fmt::print("{}\n{}", PlanText(plan),
             FormatTable({{"RANK", Align::kRight},
                          {"NODE"},
                          {"BEGIN", Align::kRight},
                          {"END", Align::kRight},
                          {"IDENTITIES", Align::kRight},
                          {"SHARE", Align::kRight},
                          {"SIZE", Align::kRight},
                          {"TARGETS", Align::kRight}},
                         rows));
  for (int i = reply.plans_size() - 2; i >= 0; --i) {
    fmt::print("{}earlier {}\n", i == reply.plans_size() - 2 ? "\n" : "", PlanText(reply.plans(i)));
  }
}

}  // namespace fr
