#include "coordinator/launch/slurm_commands.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include "common/base/error.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

bool IsInPath(const std::string& program) {
  const char* path = std::getenv("PATH");
  std::string_view rest = path != nullptr ? path : "";
  while (!rest.empty()) {
    const std::size_t end = rest.find(':');
    const fs::path candidate = fs::path(rest.substr(0, end)) / program;
    if (access(candidate.c_str(), X_OK) == 0) return true;
    if (end == std::string_view::npos) break;
    rest.remove_prefix(end + 1);
  }
  return false;
}

[[noreturn]] void ThrowUnavailable(const std::string& program, const ProgramResult& result) {
  throw Error(ErrorCode::kUnavailable, FailureText(program, result));
}

// env's arguments that take from the environment what a job has no use for. (Not sbatch
// --export=NAMES: that has each node log the user in for the rest, which may fail or take minutes.)
std::vector<std::string> Unset() {
  std::vector<std::string> words;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const std::string name(text.substr(0, text.find('=')));
    if (!PassesOn(name)) words.insert(words.end(), {"-u", name});
  }
  return words;
}

}  // namespace

bool PassesOn(const std::string& variable) {
  constexpr std::array<std::string_view, 14> kNames = {"PATH",
                                                       "LD_LIBRARY_PATH",
                                                       "HOME",
                                                       "USER",
                                                       "LOGNAME",
                                                       "SHELL",
                                                       "LANG",
                                                       "LANGUAGE",
                                                       "TZ",
                                                       "SLURM_CONF",
                                                       "SLURM_JWT",
                                                       "SLURM_CLUSTERS",
                                                       "MKL_NUM_THREADS",
                                                       "CUDA_HOME"};
  constexpr std::array<std::string_view, 10> kPrefixes = {
      "FR_", "LC_", "OMPI_MCA_", "PMIX_MCA_", "UCX_", "NCCL_", "OMP_", "KMP_", "SBATCH_", "FI_"};
  return std::find(kNames.begin(), kNames.end(), variable) != kNames.end() ||
         std::any_of(kPrefixes.begin(), kPrefixes.end(),
                     [&](std::string_view prefix) { return variable.starts_with(prefix); });
}

SlurmCommands::SlurmCommands(std::string bin_dir) : bin_dir_(std::move(bin_dir)) {
  for (const char* program : {"sbatch", "squeue", "scancel", "sinfo"}) {
    const bool found =
        bin_dir_.empty() ? IsInPath(program) : access(PathOf(program).c_str(), X_OK) == 0;
    if (found) continue;
    throw Error(ErrorCode::kNotFound,
                fmt::format("launcher slurm needs {}, which is not in {}; install Slurm's client "
                            "commands, or set slurm.bin_dir",
                            program, bin_dir_.empty() ? "PATH" : bin_dir_));
  }
}

std::string SlurmCommands::PathOf(const std::string& program) const {
  return bin_dir_.empty() ? program : (fs::path(bin_dir_) / program).string();
}

ProgramResult SlurmCommands::Run(std::vector<std::string> words) const {
  words[0] = PathOf(words[0]);
  try {
    return RunProgram(words);
  } catch (const Error& error) {
    // Gone since we started, or the system has no more processes.
    throw Error(ErrorCode::kUnavailable, error.what());
  }
}

std::string SlurmCommands::Submit(const std::string& script) const {
  std::vector<std::string> words = {"env"};
  const std::vector<std::string> unset = Unset();
  words.insert(words.end(), unset.begin(), unset.end());
  words.insert(words.end(), {PathOf("sbatch"), "--parsable", script});
  ProgramResult result;
  try {
    result = RunProgram(words);
  } catch (const Error& error) {
    throw Error(ErrorCode::kUnavailable, error.what());
  }
  if (!result.ok()) {
    const bool passes = result.timed_out || IsPassing(result.error);
    throw Error(passes ? ErrorCode::kUnavailable : ErrorCode::kFailedPrecondition,
                FailureText("sbatch", result));
  }
  try {
    return ParseJobNumber(result.output);
  } catch (const Error& error) {
    throw Error(ErrorCode::kUnavailable, error.what());
  }
}

std::vector<SlurmJob> SlurmCommands::Jobs(const std::string& selection) const {
  const ProgramResult result = Run({"squeue", "--noheader", "--states=all", selection,
                                    std::string("--Format=") + kSqueueFormat});
  // So squeue says of a single number what it says of one among many by leaving it out.
  if (!result.timed_out && result.error.find("Invalid job id specified") != std::string::npos) {
    return {};
  }
  if (!result.ok()) ThrowUnavailable("squeue", result);
  if (result.output_cut) throw Error(ErrorCode::kDataLoss, "squeue printed more than is read");
  return ParseJobs(result.output);
}

std::vector<SlurmJob> SlurmCommands::JobsByNumber(const std::vector<std::string>& numbers) const {
  return Jobs(fmt::format("--jobs={}", fmt::join(numbers, ",")));
}

std::vector<SlurmJob> SlurmCommands::JobsByName(const std::string& name) const {
  return Jobs("--name=" + name);
}

void SlurmCommands::Cancel(const std::string& number) const {
  // A job that has ended is an error to scancel, and not to us.
  const ProgramResult result = Run({"scancel", number});
  if (result.timed_out || IsPassing(result.error)) ThrowUnavailable("scancel", result);
}

void SlurmCommands::Terminate(const std::string& number, bool script) const {
  std::vector<std::string> words = {"scancel", "--signal=TERM", number};
  if (script) words.emplace_back("--batch");
  const ProgramResult result = Run(words);
  if (result.timed_out || IsPassing(result.error)) ThrowUnavailable("scancel", result);
}

std::vector<SlurmNode> SlurmCommands::Nodes(const std::string& partition) const {
  if (partition.empty()) return AskNodes({});
  return AskNodes({"--partition=" + partition});
}

std::vector<SlurmNode> SlurmCommands::NodesOf(const std::string& list) const {
  return AskNodes({"--nodes=" + list});
}

std::vector<SlurmNode> SlurmCommands::AskNodes(std::vector<std::string> selection) const {
  std::vector<std::string> words = {"sinfo", "--noheader", "--Node",
                                    std::string("--format=") + kSinfoFormat};
  words.insert(words.end(), selection.begin(), selection.end());
  const ProgramResult result = Run(words);
  if (!result.ok()) ThrowUnavailable("sinfo", result);
  if (result.output_cut) throw Error(ErrorCode::kDataLoss, "sinfo printed more than is read");
  return ParseNodes(result.output);
}

}  // namespace fr
