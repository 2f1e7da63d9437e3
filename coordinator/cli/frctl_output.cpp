#include "coordinator/cli/frctl_output.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "common/cli/text.h"
#include "coordinator/api/json.h"

namespace fr {

void PrintJson(const nlohmann::json& value) {
  constexpr int kIndent = 2;
  fmt::print("{}\n", DumpJson(value, kIndent));
}

std::string AccuracyCell(const std::vector<ValidationResult>& results) {
  std::string cell;
  for (const ValidationResult& result : results) {
    cell += fmt::format("{}{} {}", cell.empty() ? "" : ", ", result.set(),
                        PercentText(result.accuracy()));
  }
  return cell.empty() ? "-" : cell;
}

}  // namespace fr
