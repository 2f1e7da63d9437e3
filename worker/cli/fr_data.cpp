// fr-data: makes and examines data sets.

#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>
#include <thread>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>

#include "common/cli/run_command.h"
#include "worker/data/inspect.h"
#include "worker/data/pack.h"
#include "worker/data/synth/synthetic_set.h"

namespace {

struct Options {
  std::string folder;
  std::string path;
  int threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  fr::SyntheticSetOptions synth;
  fr::PackOptions pack;
};

void AddThreads(CLI::App* command, Options& options) {
  command->add_option("--threads", options.threads, "Threads that draw or read pictures")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
}

void AddSynth(CLI::App& app, Options& options, std::function<int()>* chosen) {
  auto* command = app.add_subcommand(
      "synth", "Draw a set of synthetic faces: train.rec, train.idx, property and synth.bin");
  fr::SyntheticSetOptions& synth = options.synth;
  command->add_option("DIR", options.path, "Where to; made if it is not there")->required();
  command->add_option("--identities", synth.identities, "Identities to train on")
      ->check(CLI::Range(1, 10'000'000))
      ->capture_default_str();
  command->add_option("--images", synth.images_per_identity, "Images of each")
      ->check(CLI::Range(1, 100'000))
      ->capture_default_str();
  command->add_option("--seed", synth.seed, "Same seed, same set")->capture_default_str();
  command->add_option("--holdout", synth.held_out_identities, "Further identities, for synth.bin")
      ->check(CLI::Range(3, 1'000'000))
      ->capture_default_str();
  command->add_option("--pairs", synth.max_pairs, "Pairs of synth.bin at most")
      ->check(CLI::Range(10, 1'000'000))
      ->capture_default_str();
  AddThreads(command, options);
  command->callback([&options, chosen] {
    *chosen = [&options] {
      options.synth.threads = options.threads;
      fr::WriteSyntheticSet(options.path, options.synth);
      fmt::print("{}", fr::DescribeData(options.path));
      return fr::kExitDone;
    };
  });
}

int Pack(Options& options) {
  options.pack.threads = options.threads;
  const fr::PackedSet packed = fr::PackFolder(options.folder, options.path, options.pack);
  for (const std::string& broken : packed.broken) fmt::print(stderr, "left out: {}\n", broken);
  if (!packed.held_out.empty()) {
    fmt::print("held out: {}\n", fmt::join(packed.held_out, " "));
  }
  fmt::print("{}", fr::DescribeData(options.path));
  return fr::kExitDone;
}

void AddPack(CLI::App& app, Options& options, std::function<int()>* chosen) {
  auto* command = app.add_subcommand(
      "pack", "Pack FOLDER/identity/picture.{jpg,png,pgm,ppm} into train.rec, train.idx, property");
  fr::PackOptions& pack = options.pack;
  command->add_option("FOLDER", options.folder, "One subfolder an identity")->required();
  command->add_option("DIR", options.path, "Where to; made if it is not there")->required();
  command
      ->add_option("--holdout", pack.held_out_identities,
                   "Keep so many identities out of training, for a verification set")
      ->check(CLI::Range(0, 10'000'000))
      ->capture_default_str();
  command->add_option("--name", pack.verification_name, "Name of that set: NAME.bin")
      ->capture_default_str();
  command->add_option("--pairs", pack.max_pairs, "Pairs of that set at most")
      ->check(CLI::Range(10, 10'000'000))
      ->capture_default_str();
  command->add_option("--seed", pack.seed, "Of the choice of identities and pairs")
      ->capture_default_str();
  command->add_option("--size", pack.side, "Side of the pictures, in pixels")
      ->check(CLI::Range(16, 1024))
      ->capture_default_str();
  command->add_flag("--skip-broken", pack.skip_broken,
                    "Leave pictures out that cannot be read, naming them, instead of ending");
  AddThreads(command, options);
  command->callback([&options, chosen] { *chosen = [&options] { return Pack(options); }; });
}

void AddInspect(CLI::App& app, Options& options, std::function<int()>* chosen) {
  auto* command = app.add_subcommand("inspect", "Tell what a data directory or a .bin set holds");
  command->add_option("PATH", options.path, "Directory with train.rec, or NAME.bin")->required();
  command->callback([&options, chosen] {
    *chosen = [&options] {
      fmt::print("{}", fr::DescribeData(options.path));
      return fr::kExitDone;
    };
  });
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Makes and examines data sets in InsightFace's layout.", "fr-data");
  app.require_subcommand(1);
  Options options;
  std::function<int()> chosen;
  AddSynth(app, options, &chosen);
  AddPack(app, options, &chosen);
  AddInspect(app, options, &chosen);
  return fr::RunCommand(app, argc, argv, [&chosen] { return chosen(); });
}
