#pragma once
// The subcommands of fr-data, one file each. Each Add puts its subcommand with its options into
// `app`; when it is the one that was called, `*chosen` becomes what runs it and returns the exit
// code.

#include <algorithm>
#include <filesystem>
#include <functional>
#include <thread>

#include <CLI/CLI.hpp>

namespace fr {

using ChosenCommand = std::function<int()>;

void AddSynth(CLI::App& app, ChosenCommand* chosen);
void AddPack(CLI::App& app, ChosenCommand* chosen);
void AddInspect(CLI::App& app, ChosenCommand* chosen);
void AddCheck(CLI::App& app, ChosenCommand* chosen);
void AddUnpack(CLI::App& app, ChosenCommand* chosen);
void AddPairs(CLI::App& app, ChosenCommand* chosen);
void AddMerge(CLI::App& app, ChosenCommand* chosen);
void AddShuffle(CLI::App& app, ChosenCommand* chosen);
void AddIndex(CLI::App& app, ChosenCommand* chosen);
void AddShards(CLI::App& app, ChosenCommand* chosen);
void AddAlign(CLI::App& app, ChosenCommand* chosen);
void AddDedupe(CLI::App& app, ChosenCommand* chosen);

// --threads, with all processors as the default.
inline void AddThreads(CLI::App* command, int* threads) {
  *threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  command->add_option("--threads", *threads, "Threads that work on pictures")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
}

// Whether `path`, of either a training set or a verification set, can only be the latter: shards
// are the only training sets that are files.
inline bool IsVerificationFile(const std::filesystem::path& path) {
  return std::filesystem::is_regular_file(path) && path.extension() != ".tar";
}

}  // namespace fr
