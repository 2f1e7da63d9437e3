#include "coordinator/cli/dry_run.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <vector>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/cli/text.h"
#include "common/config/job_config.h"
#include "common/sharding/shard_plan.h"

namespace fr {
namespace {

constexpr int kShownRanks = 8;

// What the data directory says about itself.
struct DataFacts {
  std::optional<std::int64_t> identities;  // first number of `property`
  std::optional<std::int64_t> images;
};

std::optional<std::int64_t> CountLines(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  std::vector<char> buffer(1 << 20);
  std::int64_t lines = 0;
  while (file.read(buffer.data(), static_cast<std::streamsize>(buffer.size())), file.gcount() > 0) {
    lines += std::count(buffer.begin(), buffer.begin() + file.gcount(), '\n');
  }
  return lines;
}

DataFacts ReadFacts(const std::filesystem::path& directory) {
  DataFacts facts;
  try {
    const std::string property = ReadFile(directory / "property");
    const std::int64_t identities = std::strtoll(property.c_str(), nullptr, 10);
    if (identities > 0) facts.identities = identities;
  } catch (const Error&) {
    return facts;
  }
  // train.idx has a line for the header, for each image and for each identity.
  const auto lines = CountLines(directory / "train.idx");
  if (lines && facts.identities && *lines > *facts.identities + 1) {
    facts.images = *lines - *facts.identities - 1;
  }
  return facts;
}

void Line(std::string& text, const std::string& title, const std::string& content) {
  text += fmt::format("  {:<9} {}\n", title, content);
}

std::string DataText(const JobSpec& spec, const DataFacts& facts) {
  std::string text = spec.data().train();
  if (!facts.identities)
    return text + ": identities unknown, there is no property that can be read here";
  text += fmt::format(": {} identities", CountText(*facts.identities));
  if (facts.images) text += fmt::format(", {} images", CountText(*facts.images));
  return text;
}

std::string StepsText(const JobSpec& spec, const DataFacts& facts, std::int64_t batch) {
  if (!facts.images) {
    return fmt::format("{} epochs; steps unknown without the number of images",
                       CountText(spec.train().epochs()));
  }
  const std::int64_t per_epoch = *facts.images / batch;
  std::int64_t total = per_epoch * spec.train().epochs();
  if (spec.train().has_max_steps()) total = std::min<std::int64_t>(total, spec.train().max_steps());
  return fmt::format("{}: {} epochs of {} steps{}", CountText(total),
                     CountText(spec.train().epochs()), CountText(per_epoch),
                     spec.train().has_max_steps() ? ", cut by train.max_steps" : "");
}

void DescribeHead(std::string& text, const JobSpec& spec, std::int64_t identities) {
  const int workers = spec.resources().workers();
  // A row of weights and one of momentum, float32.
  const std::int64_t row_bytes = std::int64_t{2} * 4 * spec.model().embedding_size();
  const std::int64_t capacity = identities * row_bytes;  // equal shares: what workers will offer is
                                                         // not known here
  const ShardPlan plan =
      PlanShards(identities, row_bytes, std::vector<std::int64_t>(std::max(workers, 1), capacity));
  Line(text, "head",
       fmt::format("{} x {} weights and momentum, float32: {} in all", CountText(identities),
                   spec.model().embedding_size(), BytesText(identities * row_bytes)));
  for (int rank = 0; rank < std::min(workers, kShownRanks); ++rank) {
    const IdentityRange& range = plan.ranges[rank];
    Line(text, "",
         fmt::format("rank {}: identities [{}, {}), {}", rank, CountText(range.begin),
                     CountText(range.end), BytesText(range.size() * row_bytes)));
  }
  if (workers > kShownRanks) {
    Line(text, "", fmt::format("... and {} ranks more", workers - kShownRanks));
  }
}

}  // namespace

std::string DescribePlan(const JobSpec& spec) {
  const int workers = spec.resources().workers();
  const std::int64_t batch = TotalBatchSize(spec, workers);
  const DataFacts facts = ReadFacts(spec.data().train());
  std::string text;
  Line(text, "job", fmt::format("{}, priority {}", spec.name(), spec.priority()));
  Line(text, "workers",
       fmt::format("{}, {} threads each", CountText(workers),
                   spec.resources().threads_per_worker()));
  Line(text, "data", DataText(spec, facts));
  for (const std::string& entry : spec.data().validation()) {
    Line(text, "verify",
         fmt::format("{}: {}", VerificationSetName(entry),
                     VerificationSetPath(spec.data(), entry).string()));
  }
  Line(text, "network",
       fmt::format("{}, embeddings of {} values", Network_Name(spec.model().network()),
                   spec.model().embedding_size()));
  Line(text, "batch", fmt::format("{} images per step", CountText(batch)));
  Line(text, "steps", StepsText(spec, facts, batch));
  if (facts.identities) DescribeHead(text, spec, *facts.identities);
  return text;
}

}  // namespace fr
