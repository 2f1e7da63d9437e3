#include "worker/data/prepare/merge.h"

#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "common/cli/progress.h"
#include "common/cli/run_command.h"
#include "worker/cli/data/commands.h"
#include "worker/data/check/inspect.h"

namespace fr {
namespace {

struct Arguments {
  std::vector<std::string> directories;  // the last is the output
  MergeOptions options;
};

int Merge(const Arguments& arguments) {
  MergeOptions options = arguments.options;
  options.report = ReportOnStderr("merge", "images");
  const std::string& out = arguments.directories.back();
  MergeSets({arguments.directories.begin(), arguments.directories.end() - 1}, out, options);
  fmt::print("{}", DescribeData(out));
  return kExitDone;
}

}  // namespace

void AddMerge(CLI::App& app, ChosenCommand* chosen) {
  const auto arguments = std::make_shared<Arguments>();
  auto* command = app.add_subcommand(
      "merge",
      "Write several training sets as one: merge SET SET... OUT; identities of the later "
      "sets follow. Stopped, the same command goes on");
  command->add_option("SETS OUT", arguments->directories, "Training sets, and where to")
      ->required()
      ->expected(2, 10'000);
  command->add_flag("--same-names", arguments->options.same_names,
                    "Identities of one name in identities.txt become one");
  command->callback([arguments, chosen] { *chosen = [arguments] { return Merge(*arguments); }; });
}

}  // namespace fr
