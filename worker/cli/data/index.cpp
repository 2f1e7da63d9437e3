#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/cli/run_command.h"
#include "worker/cli/data/commands.h"
#include "worker/data/records/rebuild_index.h"
#include "worker/data/shards/shard_index.h"
#include "worker/data/training_set.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

void IndexRecords(const fs::path& directory) {
  const fs::path idx = directory / "train.idx";
  if (fs::exists(idx)) {
    throw Error(
        ErrorCode::kFailedPrecondition,
        fmt::format("{}: is there already; move it away to have it made anew", idx.string()));
  }
  const std::vector<IndexEntry> entries = RebuildIndex(directory / "train.rec");
  WriteIndex(idx, entries);
  fmt::print("{}: {} records\n", idx.string(), entries.size());
}

void IndexShards(const fs::path& directory, int threads) {
  std::vector<Shard> shards = ListShards(directory);
  ScanShards(directory, threads, &shards);
  WriteShardIndex(directory, shards);
  std::size_t samples = 0;
  for (const Shard& shard : shards) samples += shard.samples.size();
  fmt::print("{}: {} samples in {} shards\n", (directory / "shards.idx").string(), samples,
             shards.size());
}

int Index(const fs::path& directory, int threads) {
  const SetLayout layout = LayoutAt(directory);
  if (layout == SetLayout::kFolder || !fs::is_directory(directory)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: needs no index: those of train.rec and of a directory of tar "
                            "shards are made",
                            directory.string()));
  }
  if (layout == SetLayout::kRecords) {
    IndexRecords(directory);
  } else {
    IndexShards(directory, threads);
  }
  return kExitDone;
}

}  // namespace

void AddIndex(CLI::App& app, ChosenCommand* chosen) {
  struct Arguments {
    std::string directory;
    int threads = 1;
  };
  const auto arguments = std::make_shared<Arguments>();
  auto* command = app.add_subcommand(
      "index", "Make the train.idx that a train.rec lacks, or the shards.idx of tar shards");
  command->add_option("DIR", arguments->directory, "Directory of the set")->required();
  AddThreads(command, &arguments->threads);
  command->callback([arguments, chosen] {
    *chosen = [arguments] { return Index(arguments->directory, arguments->threads); };
  });
}

}  // namespace fr
