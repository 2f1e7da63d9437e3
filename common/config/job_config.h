#pragma once
// job.yaml -> JobSpec, with the checks that go beyond single values.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "common/config/yaml_message.h"
#include "proto/job.pb.h"

namespace fr {

struct JobConfig {
  JobSpec spec;      // complete only if `diagnostics` is empty; paths are absolute
  std::string yaml;  // as it was read, before overrides
  std::vector<Diagnostic> diagnostics;
};

// Whether the paths that a job names must be there: they need not where the file is
// submitted from, if workers run elsewhere.
enum class PathCheck { kMustExist, kIgnore };

// Reads and checks `path`. Relative paths in it are taken from the directory of the file
// itself; `~` is not expanded. Checks, among others: batch_size together with total_batch_size;
// schedule.steps ascending, and given only for type step; keep_best naming a validation set of the
// job; with kMustExist the training set, by the names of its files, and every
// verification set. Throws Error(kNotFound | kIo) if the file itself cannot be read.
JobConfig LoadJobConfig(const std::filesystem::path& path,
                        const std::vector<std::string>& overrides, PathCheck path_check);

// Every diagnostic on a line of its own.
std::string FormatDiagnostics(const std::vector<Diagnostic>& diagnostics);

// Name of a verification set by its path or name: "lfw" for "lfw" and for "/data/lfw.bin".
std::string VerificationSetName(const std::string& entry);

// Where a verification set of `data.validation` lies: a plain NAME is NAME.bin in the directory of
// the training set.
std::filesystem::path VerificationSetPath(const DataSpec& data, const std::string& entry);

// Why a step of the job cannot be worked through in train.accumulate equal parts by so many
// workers, each with an image of every part; empty: it can.
std::string AccumulationMistake(const JobSpec& spec, int world_size);

// Images of all workers per step: total_batch_size, or batch_size times the workers.
std::int64_t TotalBatchSize(const JobSpec& spec, int world_size);

}  // namespace fr
