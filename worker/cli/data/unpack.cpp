#include "worker/data/prepare/unpack.h"

#include <memory>
#include <string>

#include <fmt/format.h>

#include "common/cli/progress.h"
#include "common/cli/run_command.h"
#include "worker/cli/data/commands.h"

namespace fr {
namespace {

struct Arguments {
  std::string path;
  std::string out;
  UnpackOptions options;
};

int Unpack(const Arguments& arguments) {
  UnpackOptions options = arguments.options;
  options.report = ReportOnStderr("unpack", "images");
  if (IsVerificationFile(arguments.path)) {
    const auto set = VerificationSet::Open(arguments.path);
    UnpackVerificationSet(set, arguments.out, options);
    fmt::print("{}: {} images, and pairs.csv\n", arguments.out, set.num_images());
  } else {
    const auto set = OpenTrainingSet(arguments.path);
    UnpackTrainingSet(*set, arguments.out, options);
    fmt::print("{}: {} images of {} identities\n", arguments.out, set->num_images(),
               set->num_identities());
  }
  return kExitDone;
}

}  // namespace

void AddUnpack(CLI::App& app, ChosenCommand* chosen) {
  const auto arguments = std::make_shared<Arguments>();
  auto* command = app.add_subcommand(
      "unpack",
      "Write the images of a set as files: OUT/identity/key.jpg, or of a NAME.bin "
      "OUT/number.jpg and pairs.csv; stopped, the same command goes on");
  command->add_option("PATH", arguments->path, "Training set, or NAME.bin")->required();
  command->add_option("OUT", arguments->out, "Where to; made if it is not there")->required();
  AddThreads(command, &arguments->options.threads);
  command->callback([arguments, chosen] { *chosen = [arguments] { return Unpack(*arguments); }; });
}

}  // namespace fr
