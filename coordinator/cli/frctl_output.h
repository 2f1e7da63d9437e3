#pragma once
// What the printing of more than one subcommand shares.

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "proto/metrics.pb.h"

namespace fr {

enum class OutputFormat { kTable, kJson, kCsv };

void PrintJson(const nlohmann::json& value);

// "lfw 99.43 %, agedb_30 95.12 %"; "-" for none.
std::string AccuracyCell(const std::vector<ValidationResult>& results);

}  // namespace fr
