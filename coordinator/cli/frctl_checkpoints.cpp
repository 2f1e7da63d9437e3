#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "common/base/clock.h"
#include "common/cli/table.h"
#include "common/cli/text.h"
#include "coordinator/api/json.h"
#include "coordinator/cli/frctl_commands.h"
#include "coordinator/cli/job_client.h"

namespace fr {

void PrintCheckpoints(JobClient& client, const std::string& job_id, OutputFormat format) {
  const ListCheckpointsReply reply = client.Checkpoints(job_id);
  if (format == OutputFormat::kJson) return PrintJson(CheckpointsJson(reply));
  const std::int64_t now = UnixMillis();
  std::vector<std::vector<std::string>> rows;
  for (const CheckpointManifest& manifest : reply.checkpoints()) {
    std::int64_t bytes = 0;
    for (const CheckpointFile& file : manifest.files()) bytes += file.bytes();
    rows.push_back({CountText(manifest.step()),
                    AccuracyCell({manifest.validation().begin(), manifest.validation().end()}),
                    BytesText(bytes), AgeText(manifest.created_ms(), now),
                    manifest.pinned() ? "yes" : "-", manifest.directory()});
  }
  if (rows.empty()) {
    fmt::print(stderr, "{} has no checkpoint yet\n", job_id);
    return;
  }
  fmt::print("{}", FormatTable({{"STEP", Align::kRight},
                                {"ACCURACY"},
                                {"SIZE", Align::kRight},
                                {"WRITTEN"},
                                {"PINNED"},
                                {"DIRECTORY"}},
                               rows));
}

void PinCheckpoint(JobClient& client, const std::string& job_id, const std::string& step,
                   bool pinned) {
  const std::int64_t number = client.ResolveStep(job_id, step);
  const bool retired = client.Pin(job_id, number, pinned);
  const char* what = pinned    ? "stays until it is unpinned"
                     : retired ? "is not pinned any more, and is retired: it was none of the "
                                 "latest and not the best"
                               : "is not pinned any more; it stays while it is one of the latest "
                                 "or the best";
  fmt::print(stderr, "the checkpoint of step {} of {} {}\n", number, job_id, what);
}

}  // namespace fr
