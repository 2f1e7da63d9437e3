#include <memory>

#include "worker/cli/data/commands.h"
#include "worker/cli/data/engine_commands.h"

namespace fr {

void AddDedupe(CLI::App& app, ChosenCommand* chosen) {
  const auto options = std::make_shared<DedupeCommand>();
  auto* command = app.add_subcommand(
      "dedupe", "Find the identities of SET that are also in OTHER, or twice in SET itself");
  command->add_option("SET", options->set, "The set to clean: a training set")->required();
  command->add_option("OTHER", options->other, "The set that SET must share nobody with");
  command->add_option("--model", options->model, "What embeds the faces: as fr-model takes it")
      ->required();
  command
      ->add_option("--threshold", options->threshold,
                   "Cosine of two identities' centres from which on they are one person")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  auto* out = command->add_option("--out", options->out, "Where to: SET without what was found");
  command->add_option("--report", options->report, "Every match: FILE.csv or FILE.json");
  command
      ->add_option("--policy", options->policy,
                   "remove: leave out; merge (within SET): one identity of those that are one")
      ->check(CLI::IsMember({"remove", "merge"}))
      ->needs(out)
      ->capture_default_str();
  command->add_option("--centres", options->centres,
                      "Where embeddings are kept, for going on and for other thresholds; without "
                      "it OUT.centres or REPORT.centres");
  command->add_option("--batch", options->batch, "Images at a time")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  command->add_flag("--skip-broken", options->skip_broken,
                    "Pass over images that cannot be read, instead of ending");
  AddThreads(command, &options->threads);
  command->callback([options, chosen] { *chosen = [options] { return RunDedupe(*options); }; });
}

}  // namespace fr
