#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include <fmt/format.h>

#include "common/base/file.h"
#include "common/base/temporary_directory.h"
#include "common/cli/progress.h"
#include "common/cli/run_command.h"
#include "worker/cli/data/commands.h"
#include "worker/data/check/set_check.h"
#include "worker/data/check/set_check_report.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

struct Arguments {
  std::string path;
  std::string json;
  std::string state;
  CheckOptions options;
};

template <typename Check>
int Report(const Check& check, const Arguments& arguments) {
  if (!arguments.json.empty()) WriteFileAtomically(arguments.json, CheckReportJson(check));
  fmt::print("{}", CheckReportText(check));
  return check.ok() ? kExitDone : kExitFailed;
}

int CheckTraining(const Arguments& arguments, CheckOptions options) {
  std::optional<TemporaryDirectory> temporary;
  if (!arguments.state.empty()) {
    options.state = arguments.state;
  } else if (!arguments.json.empty()) {
    options.state = arguments.json + ".state";
  } else {
    options.state = temporary.emplace().path() / "state";
  }
  const int code = Report(CheckTrainingSet(arguments.path, options), arguments);
  DiscardCheckState(options.state);
  return code;
}

int Check(const Arguments& arguments) {
  CheckOptions options = arguments.options;
  options.report = ReportOnStderr("check", "images");
  try {
    if (IsVerificationFile(arguments.path)) {
      return Report(CheckVerificationSet(arguments.path, options), arguments);
    }
    return CheckTraining(arguments, options);
  } catch (const Error& error) {
    // 1 is for a set with faults, whatever keeps one from being looked at is another thing.
    if (error.code() != ErrorCode::kNotFound) throw;
    throw Error(ErrorCode::kInvalidArgument, error.what());
  }
}

}  // namespace

void AddCheck(CLI::App& app, ChosenCommand* chosen) {
  const auto arguments = std::make_shared<Arguments>();
  auto* command = app.add_subcommand(
      "check",
      "Decode every image of a set and say what is wrong with it. Exit code 0: nothing, "
      "1: something, 2: it is no set");
  command->add_option("PATH", arguments->path, "Training set, or NAME.bin")->required();
  command->add_option("--json", arguments->json, "Write the findings to this file, too");
  command->add_option("--state", arguments->state,
                      "Where to note what is checked, so that a check that is stopped goes on "
                      "(else beside the file of --json; without it, nowhere)");
  AddThreads(command, &arguments->options.threads);
  command->callback([arguments, chosen] { *chosen = [arguments] { return Check(*arguments); }; });
}

}  // namespace fr
