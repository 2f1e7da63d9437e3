#include "common/store/store_key.h"

#include <array>

#include <fmt/format.h>

#include "common/base/error.h"

namespace fr {
namespace {

constexpr std::uint64_t kSignBit = std::uint64_t{1} << 63;

}  // namespace

const char* StoreTableName(StoreTable table) {
  static constexpr std::array<const char*, kNumStoreTables> kNames = {
      "default",         "jobs",      "transitions", "plans", "checkpoints", "metrics",
      "submission_keys", "job_index", "job_files",   "nodes", "users"};
  return kNames[static_cast<std::size_t>(table)];
}

std::string Int64Key(std::int64_t value) {
  const std::uint64_t bits = static_cast<std::uint64_t>(value) ^ kSignBit;
  std::string key(kInt64KeySize, '\0');
  for (std::size_t i = 0; i < kInt64KeySize; ++i) {
    key[i] = static_cast<char>(bits >> (8 * (kInt64KeySize - 1 - i)));
  }
  return key;
}

std::int64_t ParseInt64Key(std::string_view bytes) {
  std::uint64_t bits = 0;
  for (std::size_t i = 0; i < kInt64KeySize; ++i) {
    bits = bits << 8 | static_cast<unsigned char>(bytes[i]);
  }
  return static_cast<std::int64_t>(bits ^ kSignBit);
}

bool IsMetricName(std::string_view name) {
  return !name.empty() && name.find('\0') == std::string_view::npos;
}

std::string MetricPrefix(std::int64_t job, std::string_view name) {
  std::string key = Int64Key(job);
  key.append(name);
  key.push_back('\0');
  return key;
}

std::string MetricKey(std::int64_t job, std::string_view name, std::int64_t step) {
  if (!IsMetricName(name)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("a metric of job {} has a name of {} bytes that is empty or holds a "
                            "zero byte; names are paths such as train/loss",
                            job, name.size()));
  }
  return MetricPrefix(job, name) + Int64Key(step);
}

std::optional<MetricKeyParts> ParseMetricKey(std::string_view key) {
  if (key.size() < 2 * kInt64KeySize + 2) return std::nullopt;
  const std::size_t name_size = key.size() - 2 * kInt64KeySize - 1;
  const std::string_view name = key.substr(kInt64KeySize, name_size);
  if (!IsMetricName(name) || key[kInt64KeySize + name_size] != '\0') return std::nullopt;
  return MetricKeyParts{std::string(name), ParseInt64Key(key.substr(key.size() - kInt64KeySize))};
}

bool JobIndexRow::live() const {
  const bool ended =
      state == JobState::COMPLETED || state == JobState::FAILED || state == JobState::CANCELLED;
  return !ended || has_launch;
}

JobIndexRow IndexRowOf(const JobRecord& record) {
  return {record.state(), record.has_launch(), record.owner()};
}

std::string JobIndexValue(const JobIndexRow& row) {
  std::string value = {static_cast<char>(row.state), static_cast<char>(row.has_launch)};
  return value + row.owner;
}

std::optional<JobIndexRow> ParseJobIndexValue(std::string_view value) {
  if (value.size() < 2 || !JobState_IsValid(value[0]) || (value[1] != 0 && value[1] != 1)) {
    return std::nullopt;
  }
  return JobIndexRow{static_cast<JobState>(value[0]), value[1] == 1, std::string(value.substr(2))};
}

}  // namespace fr
