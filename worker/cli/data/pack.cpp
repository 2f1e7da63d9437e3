#include "worker/data/prepare/pack.h"

#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/base/error.h"
#include "common/cli/progress.h"
#include "common/cli/run_command.h"
#include "worker/cli/data/alignment_options.h"
#include "worker/cli/data/commands.h"
#include "worker/data/check/inspect.h"

namespace fr {
namespace {

struct Arguments {
  std::string folder;
  std::string directory;
  bool align = false;
  AlignmentOptions alignment;
  PackOptions options;
};

// Pictures are cut to their aligned faces before they are packed.
void PrepareByAligning(const Arguments& arguments, PackOptions* options) {
  options->prepare = [find = arguments.alignment.Open(), folder = arguments.folder,
                      side = options->side](const std::filesystem::path& path, const Image& image) {
    const std::string name = path.lexically_relative(folder).generic_string();
    std::optional<Image> face = AlignPicture(find, name, image, side);
    if (!face) throw Error(ErrorCode::kDataLoss, "no face");
    return *std::move(face);
  };
  options->prepare_key = arguments.alignment.Fingerprint();
}

int Pack(const Arguments& arguments) {
  PackOptions options = arguments.options;
  if (arguments.align || arguments.alignment.given()) {
    PrepareByAligning(arguments, &options);
  }
  options.report = ReportOnStderr("pack", "pictures");
  const PackedSet packed = PackFolder(arguments.folder, arguments.directory, options);
  for (const std::string& broken : packed.broken) fmt::print(stderr, "left out: {}\n", broken);
  if (!packed.held_out.empty()) fmt::print("held out: {}\n", fmt::join(packed.held_out, " "));
  fmt::print("{}", DescribeData(arguments.directory));
  return kExitDone;
}

}  // namespace

void AddPack(CLI::App& app, ChosenCommand* chosen) {
  const auto arguments = std::make_shared<Arguments>();
  PackOptions& options = arguments->options;
  auto* command = app.add_subcommand(
      "pack",
      "Pack FOLDER/identity/picture.{jpg,png,pgm,ppm} into train.rec, train.idx, property; "
      "stopped, the same command goes on");
  command->add_option("FOLDER", arguments->folder, "One subfolder an identity")->required();
  command->add_option("DIR", arguments->directory, "Where to; made if it is not there")->required();
  command
      ->add_option("--holdout", options.held_out_identities,
                   "Keep so many identities out of training, for a verification set")
      ->check(CLI::Range(0, 10'000'000))
      ->capture_default_str();
  command->add_option("--name", options.verification_name, "Name of that set: NAME.bin")
      ->capture_default_str();
  command->add_option("--pairs", options.max_pairs, "Pairs of that set at most")
      ->check(CLI::Range(10, 10'000'000))
      ->capture_default_str();
  command->add_option("--seed", options.seed, "Of the choice of identities and pairs")
      ->capture_default_str();
  command->add_option("--size", options.side, "Side of the pictures, in pixels")
      ->check(CLI::Range(16, 1024))
      ->capture_default_str();
  command->add_flag("--skip-broken", options.skip_broken,
                    "Leave pictures out that cannot be read, naming them, instead of ending");
  command->add_flag("--align", arguments->align,
                    "Pack the aligned face of each picture, as fr-data align cuts it; one without "
                    "a face counts as broken");
  AddAlignmentOptions(command, &arguments->alignment);
  AddThreads(command, &options.threads);
  command->callback([arguments, chosen] { *chosen = [arguments] { return Pack(*arguments); }; });
}

}  // namespace fr
