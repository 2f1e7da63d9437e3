#pragma once
// What fr-model's subcommands do, once the command line is read.

#include <optional>
#include <string>
#include <vector>

#include "proto/job.pb.h"

namespace fr {

enum class ModelOutput { kTable, kJson };

// `spec` holds what the command line says of the network: only the fields that were given.
struct ImportCommand {
  std::string source;
  std::string out;
  ModelSpec spec;
  std::string params;
  std::optional<double> pixel_mean;
  std::optional<double> pixel_std;
};

struct ExportCommand {
  std::string model;
  std::string out;
  std::string format;  // "": by the extension of `out`
  bool fold = true;
};

struct InfoCommand {
  std::string model;  // "": the network of `spec`
  ModelSpec spec;
  ModelOutput output = ModelOutput::kTable;
  bool layers = false;
};

struct VerifyCommand {
  std::string model;
  std::vector<std::string> sets;
  Precision precision = Precision::fp32;
  int threads = 0;  // 0: all
  int batch = 64;
  ModelOutput output = ModelOutput::kTable;
};

struct EmbedCommand {
  std::string model;
  std::vector<std::string> pictures;
  Precision precision = Precision::fp32;
  int threads = 0;
  int batch = 32;
  bool mirror = true;
  bool normalise = true;
  bool npy = false;
  std::string out;  // "": standard output
};

// Each returns the exit code, or throws Error.
int RunImport(const ImportCommand& command);
int RunExport(const ExportCommand& command);
int RunInfo(const InfoCommand& command);
int RunVerify(const VerifyCommand& command);
int RunEmbed(const EmbedCommand& command);

}  // namespace fr
