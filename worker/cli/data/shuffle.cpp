#include "worker/data/prepare/shuffle.h"

#include <cstdint>
#include <memory>
#include <string>

#include <fmt/format.h>

#include "common/cli/progress.h"
#include "common/cli/run_command.h"
#include "worker/cli/data/commands.h"
#include "worker/data/check/inspect.h"

namespace fr {
namespace {

struct Arguments {
  std::string set;
  std::string out;
  std::uint64_t memory_mib = 1024;
  ShuffleOptions options;
};

int Shuffle(const Arguments& arguments) {
  ShuffleOptions options = arguments.options;
  options.memory_bytes = arguments.memory_mib << 20;
  options.report = ReportOnStderr("shuffle", "images, each twice");
  ShuffleSet(arguments.set, arguments.out, options);
  fmt::print("{}", DescribeData(arguments.out));
  return kExitDone;
}

}  // namespace

void AddShuffle(CLI::App& app, ChosenCommand* chosen) {
  const auto arguments = std::make_shared<Arguments>();
  auto* command = app.add_subcommand(
      "shuffle",
      "Write a training set with its records in random order, for disks and stores that "
      "are read from front to back; stopped, the same command goes on");
  command->add_option("SET", arguments->set, "Training set")->required();
  command->add_option("OUT", arguments->out, "Where to; made if it is not there")->required();
  command->add_option("--seed", arguments->options.seed, "Of the order")->capture_default_str();
  command->add_option("--memory", arguments->memory_mib, "MiB for images, at most")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  command->callback([arguments, chosen] { *chosen = [arguments] { return Shuffle(*arguments); }; });
}

}  // namespace fr
