#include <memory>
#include <string>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/cli/progress.h"
#include "common/cli/run_command.h"
#include "common/cli/text.h"
#include "worker/cli/data/alignment_options.h"
#include "worker/cli/data/commands.h"
#include "worker/data/prepare/align_folder.h"

namespace fr {
namespace {

struct Arguments {
  std::string folder;
  std::string out;
  AlignmentOptions alignment;
  AlignOptions options;
};

int Align(const Arguments& arguments) {
  AlignOptions options = arguments.options;
  const FindPoints find = arguments.alignment.Open();
  options.report = ReportOnStderr("align", "pictures");
  const AlignedFolder aligned = AlignFolder(arguments.folder, arguments.out, find, options);
  options.report = {};  // its line ends
  for (const std::string& broken : aligned.broken) fmt::print(stderr, "broken: {}\n", broken);
  if (!arguments.alignment.landmarks.empty() && aligned.aligned + aligned.kept == 0) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: has points of no picture in {}; its paths are relative to that "
                            "folder, such as {}",
                            arguments.alignment.landmarks, arguments.folder,
                            aligned.no_face.empty() ? "s1/1.jpg" : aligned.no_face.front()));
  }
  fmt::print("aligned     {}\nwere there  {}\nno face     {}\nbroken      {}\n",
             CountText(aligned.aligned), CountText(aligned.kept),
             CountText(std::ssize(aligned.no_face)), CountText(std::ssize(aligned.broken)));
  return aligned.broken.empty() ? kExitDone : kExitFailed;
}

}  // namespace

void AddAlign(CLI::App& app, ChosenCommand* chosen) {
  const auto arguments = std::make_shared<Arguments>();
  auto* command = app.add_subcommand(
      "align",
      "Cut the aligned face out of every FOLDER/identity/picture; stopped, the same "
      "command goes on");
  command->add_option("FOLDER", arguments->folder, "One subfolder an identity")->required();
  command->add_option("OUT", arguments->out, "Where to: OUT/identity/picture.jpg")->required();
  command->add_option("--size", arguments->options.side, "Side of the faces, in pixels")
      ->check(CLI::Range(16, 1024))
      ->capture_default_str();
  AddAlignmentOptions(command, &arguments->alignment);
  AddThreads(command, &arguments->options.threads);
  command->callback([arguments, chosen] { *chosen = [arguments] { return Align(*arguments); }; });
}

}  // namespace fr
