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

#include "proto/record.pb.h"

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
  kJobIndex,
  kJobFiles,
  kNodes,
  kUsers,
};
inline constexpr std::size_t kNumStoreTables = 11;

// Of the row in kDefault that says which layout the database has, and this layout.
inline constexpr char kStoreFormatKey[] = "format";
inline constexpr char kStoreFormat[] = "2";

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

// What lists and counts need to know of a job, in a row that is much smaller than the job's own.
struct JobIndexRow {
  JobState state = JobState::PENDING;
  bool has_launch = false;
  std::string owner;

  // Not ended, or ended with processes that may still be there.
  bool live() const;
};
JobIndexRow IndexRowOf(const JobRecord& record);
std::string JobIndexValue(const JobIndexRow& row);
// Nothing for a value that JobIndexValue did not make.
std::optional<JobIndexRow> ParseJobIndexValue(std::string_view value);

}  // namespace fr
