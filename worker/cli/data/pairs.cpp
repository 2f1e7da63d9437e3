#include <memory>
#include <string>

#include <fmt/format.h>

#include "common/cli/progress.h"
#include "common/cli/run_command.h"
#include "worker/cli/data/commands.h"
#include "worker/data/check/inspect.h"
#include "worker/data/verification/make_verification.h"

namespace fr {
namespace {

struct Arguments {
  std::string source;
  std::string out;
  std::string pairs_txt;
  MakeVerificationOptions options;
};

int MakePairs(const Arguments& arguments) {
  MakeVerificationOptions options = arguments.options;
  options.pairs_txt = arguments.pairs_txt;
  options.report = ReportOnStderr("pairs", "images");
  MakeVerificationSet(arguments.source, arguments.out, options);
  fmt::print("{}", DescribeData(arguments.out));
  return kExitDone;
}

}  // namespace

void AddPairs(CLI::App& app, ChosenCommand* chosen) {
  const auto arguments = std::make_shared<Arguments>();
  MakeVerificationOptions& options = arguments->options;
  auto* command = app.add_subcommand(
      "pairs", "Make a verification set NAME.bin from a folder of pictures or a training set");
  command->add_option("SOURCE", arguments->source, "SOURCE/name/picture.jpg, or a training set")
      ->required();
  command->add_option("NAME.bin", arguments->out, "Where to")->required();
  auto* list = command->add_option("--pairs-txt", arguments->pairs_txt,
                                   "The pairs, as LFW lists them; pictures are "
                                   "SOURCE/name/name_0001.jpg");
  command->add_option("--count", options.max_pairs, "Pairs at most that are drawn without a list")
      ->check(CLI::Range(10, 10'000'000))
      ->capture_default_str()
      ->excludes(list);
  command->add_option("--seed", options.seed, "Of the choice of pairs")
      ->capture_default_str()
      ->excludes(list);
  command->add_option("--size", options.side, "Side of the pictures, in pixels")
      ->check(CLI::Range(16, 1024))
      ->capture_default_str();
  command->add_flag("--resize", options.resize,
                    "Scale pictures of another size, and crop them, instead of ending");
  AddThreads(command, &options.threads);
  command->callback(
      [arguments, chosen] { *chosen = [arguments] { return MakePairs(*arguments); }; });
}

}  // namespace fr
