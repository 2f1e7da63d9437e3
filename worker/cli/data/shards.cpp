#include <memory>
#include <string>

#include <fmt/format.h>

#include "common/cli/run_command.h"
#include "worker/cli/data/commands.h"
#include "worker/data/shards/write_shards.h"
#include "worker/data/training_set.h"

namespace fr {

void AddShards(CLI::App& app, ChosenCommand* chosen) {
  struct Arguments {
    std::string set;
    std::string directory;
    ShardOptions options;
  };
  const auto arguments = std::make_shared<Arguments>();
  ShardOptions& options = arguments->options;
  auto* command =
      app.add_subcommand("shards", "Spread a training set over WebDataset shards (*.tar)");
  command->add_option("SET", arguments->set, "Any training set that is read")->required();
  command->add_option("DIR", arguments->directory, "Where to; must not hold anything")->required();
  command->add_option("--size", options.shard_bytes, "Of a shard, such as 500M; 1G without it")
      ->transform(CLI::AsSizeValue(false));
  command->add_flag("--shuffle", options.shuffle, "Mix the images of all identities");
  command->add_option("--seed", options.seed, "Of that order")->capture_default_str();
  command->callback([arguments, chosen] {
    *chosen = [arguments] {
      const auto set = OpenTrainingSet(arguments->set);
      const WrittenShards written = WriteShards(*set, arguments->directory, arguments->options);
      fmt::print("{}: {} images in {} shards\n", arguments->directory, written.num_images,
                 written.num_shards);
      return kExitDone;
    };
  });
}

}  // namespace fr
