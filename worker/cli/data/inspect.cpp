#include "worker/data/check/inspect.h"

#include <memory>
#include <string>

#include <fmt/format.h>

#include "common/cli/run_command.h"
#include "worker/cli/data/commands.h"

namespace fr {

void AddInspect(CLI::App& app, ChosenCommand* chosen) {
  const auto path = std::make_shared<std::string>();
  auto* command = app.add_subcommand("inspect", "Tell what a data directory or a .bin set holds");
  command
      ->add_option("PATH", *path,
                   "Training set (records, shards, folders of pictures), or NAME.bin")
      ->required();
  command->callback([path, chosen] {
    *chosen = [path] {
      fmt::print("{}", DescribeData(*path));
      return kExitDone;
    };
  });
}

}  // namespace fr
