// fr-data: makes and examines data sets.

#include <CLI/CLI.hpp>

#include "common/cli/run_command.h"
#include "worker/cli/data/commands.h"

int main(int argc, char** argv) {
  CLI::App app("Makes and examines data sets of faces.", "fr-data");
  app.require_subcommand(1);
  fr::ChosenCommand chosen;
  fr::AddSynth(app, &chosen);
  fr::AddPack(app, &chosen);
  fr::AddInspect(app, &chosen);
  fr::AddCheck(app, &chosen);
  fr::AddUnpack(app, &chosen);
  fr::AddPairs(app, &chosen);
  fr::AddMerge(app, &chosen);
  fr::AddShuffle(app, &chosen);
  fr::AddIndex(app, &chosen);
  fr::AddShards(app, &chosen);
  fr::AddAlign(app, &chosen);
  fr::AddDedupe(app, &chosen);
  return fr::RunCommand(app, argc, argv, [&chosen] { return chosen(); });
}
