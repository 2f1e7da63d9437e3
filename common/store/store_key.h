#pragma once
// Tables and keys of the run store; docs/store.md shows the layout as a whole.
//
// RocksDB orders keys by their bytes. Integers are written big-endian with the sign bit inverted,
// so that this order is the numeric one and iteration needs no sorting.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace fr {

// One column family each; the number is the index into OpenedDatabase::families.
enum class StoreTable {
  kDefault = 0,  // "format": version of this layout
  kJobs,
  kTransitions,
  kPlans,
  kCheckpoints,
  kMetrics,
  kSubmissionKeys,
};
inline constexpr std::size_t kNumStoreTables = 7;

const char* StoreTableName(StoreTable table);  // as the column family is named

inline constexpr std::size_t kInt64KeySize = 8;
std::string Int64Key(std::int64_t value);
// Of the first eight bytes. REQUIRES: there are as many.
std::int64_t ParseInt64Key(std::string_view bytes);

// job, name, a zero byte, step. The zero byte ends the name, so that "a" and "a/b" do not mix.
// Throws Error(kInvalidArgument) unless IsMetricName(name).
std::string MetricKey(std::int64_t job, std::string_view name, std::int64_t step);
std::string MetricPrefix(std::int64_t job, std::string_view name);  // all but the step
// Not empty, without a zero byte.
bool IsMetricName(std::string_view name);

struct MetricKeyParts {
  std::string name;
  std::int64_t step = 0;
};
// Nothing for a key that MetricKey did not make.
std::optional<MetricKeyParts> ParseMetricKey(std::string_view key);

}  // namespace fr
