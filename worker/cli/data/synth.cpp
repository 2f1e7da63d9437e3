#include <memory>
#include <string>

#include <fmt/format.h>

#include "common/cli/progress.h"
#include "common/cli/run_command.h"
#include "worker/cli/data/commands.h"
#include "worker/data/check/inspect.h"
#include "worker/data/synth/synthetic_set.h"

namespace fr {

void AddSynth(CLI::App& app, ChosenCommand* chosen) {
  struct Arguments {
    std::string directory;
    SyntheticSetOptions options;
  };
  const auto arguments = std::make_shared<Arguments>();
  auto* command = app.add_subcommand(
      "synth", "Draw a set of synthetic faces: train.rec, train.idx, property and synth.bin");
  SyntheticSetOptions& options = arguments->options;
  command->add_option("DIR", arguments->directory, "Where to; made if it is not there")->required();
  command->add_option("--identities", options.identities, "Identities to train on")
      ->check(CLI::Range(1, 10'000'000))
      ->capture_default_str();
  command->add_option("--images", options.images_per_identity, "Images of each")
      ->check(CLI::Range(1, 100'000))
      ->capture_default_str();
  command->add_option("--seed", options.seed, "Same seed, same set")->capture_default_str();
  command->add_option("--holdout", options.held_out_identities, "Further identities, for synth.bin")
      ->check(CLI::Range(3, 1'000'000))
      ->capture_default_str();
  command->add_option("--pairs", options.max_pairs, "Pairs of synth.bin at most")
      ->check(CLI::Range(10, 1'000'000))
      ->capture_default_str();
  AddThreads(command, &options.threads);
  command->callback([arguments, chosen] {
    *chosen = [arguments] {
      SyntheticSetOptions with_report = arguments->options;
      with_report.report = ReportOnStderr("synth", "images");
      WriteSyntheticSet(arguments->directory, with_report);
      fmt::print("{}", DescribeData(arguments->directory));
      return kExitDone;
    };
  });
}

}  // namespace fr
