#include "common/store/run_store.h"

#include <array>
#include <bit>
#include <cstdint>
#include <limits>
#include <mutex>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/write_batch.h>

#include "common/base/error.h"
#include "common/base/fail_point.h"
#include "common/store/store_key.h"
#include "common/store/store_open.h"

namespace fr {
namespace {

using rocksdb::Slice;

// No row of the metric has a greater key.
std::string LastMetricKey(std::int64_t job, const std::string& name) {
  return MetricKey(job, name, std::numeric_limits<std::int64_t>::max());
}

std::string MetricValue(const MetricPoint& point) {
  return Int64Key(std::bit_cast<std::int64_t>(point.value())) + Int64Key(point.time_ms());
}

}  // namespace

struct StoreBatch::Impl {
  // A change of one row; without a value, its deletion.
  struct Change {
    StoreTable table;
    std::string key;
    std::optional<std::string> value;
  };
  std::vector<Change> changes;
  std::vector<std::pair<std::int64_t, JobState>> job_states;  // of the jobs that are put

  void Put(StoreTable table, std::string key, std::string value) {
    changes.push_back({table, std::move(key), std::move(value)});
  }
};

StoreBatch::StoreBatch() : impl_(std::make_unique<Impl>()) {}
StoreBatch::~StoreBatch() = default;
StoreBatch::StoreBatch(StoreBatch&&) noexcept = default;
StoreBatch& StoreBatch::operator=(StoreBatch&&) noexcept = default;

void StoreBatch::PutJob(const JobRecord& record) {
  if (record.has_yaml() || record.number() < 1) {
    throw Error(ErrorCode::kInternal,
                fmt::format("the record of job {} has {}", record.number(),
                            record.has_yaml() ? "its file; PutJobFile is for that" : "no number"));
  }
  const std::string key = Int64Key(record.number());
  impl_->Put(StoreTable::kJobs, key, record.SerializeAsString());
  impl_->Put(StoreTable::kJobIndex, key, JobIndexValue(IndexRowOf(record)));
  impl_->job_states.emplace_back(record.number(), record.state());
}

void StoreBatch::PutJobFile(std::int64_t job, const std::string& yaml) {
  impl_->Put(StoreTable::kJobFiles, Int64Key(job), yaml);
}

void StoreBatch::PutTransition(std::int64_t job, std::int64_t index, const Transition& transition) {
  impl_->Put(StoreTable::kTransitions, Int64Key(job) + Int64Key(index),
             transition.SerializeAsString());
}

void StoreBatch::PutShardPlan(std::int64_t job, const ShardPlanProto& plan) {
  impl_->Put(StoreTable::kPlans, Int64Key(job) + Int64Key(plan.generation()),
             plan.SerializeAsString());
}

void StoreBatch::PutCheckpoint(std::int64_t job, const CheckpointManifest& manifest) {
  impl_->Put(StoreTable::kCheckpoints, Int64Key(job) + Int64Key(manifest.step()),
             manifest.SerializeAsString());
}

void StoreBatch::DeleteCheckpoint(std::int64_t job, std::int64_t step) {
  impl_->changes.push_back({StoreTable::kCheckpoints, Int64Key(job) + Int64Key(step), {}});
}

void StoreBatch::PutMetric(std::int64_t job, const MetricPoint& point) {
  impl_->Put(StoreTable::kMetrics, MetricKey(job, point.name(), point.step()), MetricValue(point));
}

void StoreBatch::PutSubmissionKey(const std::string& key, std::int64_t job) {
  impl_->Put(StoreTable::kSubmissionKeys, key, Int64Key(job));
}

void StoreBatch::PutNode(const NodeRecord& node) {
  impl_->Put(StoreTable::kNodes, node.name(), node.SerializeAsString());
}

void StoreBatch::PutUser(const UserRecord& user) {
  impl_->Put(StoreTable::kUsers, user.name(), user.SerializeAsString());
}

namespace {

// The state of every job in memory, as it is in the table of jobs, so that counting reads nothing.
class JobStates {
 public:
  void Put(std::int64_t job, JobState state) {
    const std::lock_guard lock(mutex_);
    const auto [known, is_new] = states_.emplace(job, state);
    if (!is_new) {
      if (--counts_[known->second] == 0) counts_.erase(known->second);
      known->second = state;
    }
    ++counts_[state];
  }

  std::map<JobState, std::int64_t> Counts() const {
    const std::lock_guard lock(mutex_);
    return counts_;
  }

  std::int64_t LastNumber() const {
    const std::lock_guard lock(mutex_);
    return states_.empty() ? 0 : states_.rbegin()->first;
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::int64_t, JobState> states_;
  std::map<JobState, std::int64_t> counts_;
};

}  // namespace

struct RunStore::Impl {
  std::filesystem::path directory;
  OpenedDatabase opened;
  JobStates job_states;

  std::unique_ptr<rocksdb::Iterator> NewIterator(StoreTable table) const {
    return std::unique_ptr<rocksdb::Iterator>(
        opened.database->NewIterator(rocksdb::ReadOptions(), opened.Family(table)));
  }

  [[noreturn]] void ThrowDamagedRow(StoreTable table) const {
    fr::ThrowDamagedRow(directory, table);
  }

  void CheckEnd(const rocksdb::Iterator& rows) const {
    if (!rows.status().ok()) ThrowStoreError(rows.status(), directory, "read");
  }

  template <typename Message>
  Message Parse(StoreTable table, Slice value) const {
    Message message;
    if (!message.ParseFromArray(value.data(), static_cast<int>(value.size()))) {
      ThrowDamagedRow(table);
    }
    return message;
  }

  // Every row whose key begins with `prefix`, in the order of the keys.
  template <typename Message>
  std::vector<Message> Rows(StoreTable table, const std::string& prefix) const {
    std::vector<Message> messages;
    const auto rows = NewIterator(table);
    for (rows->Seek(prefix); rows->Valid() && rows->key().starts_with(prefix); rows->Next()) {
      messages.push_back(Parse<Message>(table, rows->value()));
    }
    CheckEnd(*rows);
    return messages;
  }

  std::optional<std::string> Get(StoreTable table, const std::string& key) const {
    std::string value;
    const rocksdb::Status status =
        opened.database->Get(rocksdb::ReadOptions(), opened.Family(table), key, &value);
    if (status.IsNotFound()) return std::nullopt;
    if (!status.ok()) ThrowStoreError(status, directory, "read");
    return value;
  }

  // A job that `number` must be of, since the index has it.
  JobRecord IndexedJob(std::int64_t number) const {
    const std::optional<std::string> value = Get(StoreTable::kJobs, Int64Key(number));
    if (!value) ThrowDamagedRow(StoreTable::kJobIndex);
    return Parse<JobRecord>(StoreTable::kJobs, *value);
  }

  // The row of the index that `rows` stands at.
  std::pair<std::int64_t, JobIndexRow> ReadIndexRow(const rocksdb::Iterator& rows) const {
    const Slice value = rows.value();
    std::optional<JobIndexRow> row = ParseJobIndexValue({value.data(), value.size()});
    if (!row || rows.key().size() != kInt64KeySize) ThrowDamagedRow(StoreTable::kJobIndex);
    return {ParseInt64Key({rows.key().data(), rows.key().size()}), *std::move(row)};
  }

  void AppendPoint(const MetricKeyParts& key, Slice value, MetricSeries* series) const {
    if (value.size() != 2 * kInt64KeySize) ThrowDamagedRow(StoreTable::kMetrics);
    const std::string_view bytes(value.data(), value.size());
    series->add_steps(key.step);
    series->add_values(std::bit_cast<double>(ParseInt64Key(bytes)));
    series->add_times_ms(ParseInt64Key(bytes.substr(kInt64KeySize)));
  }

  MetricKeyParts ParseKey(Slice key) const {
    const std::optional<MetricKeyParts> parts =
        ParseMetricKey(std::string_view(key.data(), key.size()));
    if (!parts) ThrowDamagedRow(StoreTable::kMetrics);
    return *parts;
  }

  // Names of the job's metrics that begin with `beginning`, at the cost of one seek each.
  std::set<std::string> MetricNames(rocksdb::Iterator* rows, std::int64_t job,
                                    const std::string& beginning) const {
    std::set<std::string> names;
    const std::string prefix = Int64Key(job) + beginning;
    rows->Seek(prefix);
    while (rows->Valid() && rows->key().starts_with(prefix)) {
      const std::string name = ParseKey(rows->key()).name;
      names.insert(name);
      rows->Seek(LastMetricKey(job, name) + '\0');
    }
    CheckEnd(*rows);
    return names;
  }

  // The points of one metric from the row that `rows` stands at; leaves it behind them.
  MetricSeries ReadSeries(rocksdb::Iterator* rows, const std::string& prefix,
                          const std::string& name) const {
    MetricSeries series;
    series.set_name(name);
    for (; rows->Valid() && rows->key().starts_with(prefix); rows->Next()) {
      AppendPoint(ParseKey(rows->key()), rows->value(), &series);
    }
    return series;
  }
};

RunStore::RunStore(const std::filesystem::path& directory) : impl_(std::make_unique<Impl>()) {
  impl_->directory = directory;
  impl_->opened = OpenDatabase(directory);
  const auto rows = impl_->NewIterator(StoreTable::kJobIndex);
  for (rows->SeekToFirst(); rows->Valid(); rows->Next()) {
    const auto [number, row] = impl_->ReadIndexRow(*rows);
    impl_->job_states.Put(number, row.state);
  }
  impl_->CheckEnd(*rows);
}

RunStore::~RunStore() = default;

void RunStore::Commit(StoreBatch batch, std::string_view label) {
  if (batch.impl_->changes.empty()) return;  // a heartbeat need not wait for the disk
  rocksdb::WriteBatch writes;
  for (const StoreBatch::Impl::Change& change : batch.impl_->changes) {
    rocksdb::ColumnFamilyHandle* family = impl_->opened.Family(change.table);
    const rocksdb::Status status = change.value ? writes.Put(family, change.key, *change.value)
                                                : writes.Delete(family, change.key);
    if (!status.ok()) ThrowStoreError(status, impl_->directory, "write");
  }
  rocksdb::WriteOptions options;
  options.sync = true;
  FR_FAIL_POINT(fmt::format("{}: before commit", label));
  const rocksdb::Status status = impl_->opened.database->Write(options, &writes);
  if (!status.ok()) ThrowStoreError(status, impl_->directory, "write");
  FR_FAIL_POINT(fmt::format("{}: after commit", label));
  for (const auto& [job, state] : batch.impl_->job_states) impl_->job_states.Put(job, state);
}

std::optional<JobRecord> RunStore::Job(std::int64_t job) const {
  const std::optional<std::string> value = impl_->Get(StoreTable::kJobs, Int64Key(job));
  if (!value) return std::nullopt;
  return impl_->Parse<JobRecord>(StoreTable::kJobs, *value);
}

std::optional<std::string> RunStore::JobFile(std::int64_t job) const {
  return impl_->Get(StoreTable::kJobFiles, Int64Key(job));
}

std::vector<JobRecord> RunStore::LiveJobs() const {
  std::vector<JobRecord> jobs;
  const auto rows = impl_->NewIterator(StoreTable::kJobIndex);
  for (rows->SeekToFirst(); rows->Valid(); rows->Next()) {
    const auto [number, row] = impl_->ReadIndexRow(*rows);
    if (row.live()) jobs.push_back(impl_->IndexedJob(number));
  }
  impl_->CheckEnd(*rows);
  return jobs;
}

JobPage RunStore::Jobs(const JobFilter& filter) const {
  JobPage page;
  if (filter.limit < 1) return page;
  const auto rows = impl_->NewIterator(StoreTable::kJobIndex);
  if (!filter.before) {
    rows->SeekToLast();
  } else if (*filter.before > 1) {
    rows->SeekForPrev(Int64Key(*filter.before - 1));
  }
  for (; rows->Valid(); rows->Prev()) {
    const auto [number, row] = impl_->ReadIndexRow(*rows);
    if (!filter.owner.empty() && row.owner != filter.owner) continue;
    if (!filter.states.empty() && !filter.states.contains(row.state)) continue;
    page.more = std::ssize(page.jobs) == filter.limit;
    if (page.more) break;
    page.jobs.push_back(impl_->IndexedJob(number));
  }
  impl_->CheckEnd(*rows);
  return page;
}

std::map<JobState, std::int64_t> RunStore::CountJobs() const { return impl_->job_states.Counts(); }

std::int64_t RunStore::LastJobNumber() const { return impl_->job_states.LastNumber(); }

std::vector<NodeRecord> RunStore::Nodes() const {
  return impl_->Rows<NodeRecord>(StoreTable::kNodes, "");
}

std::vector<UserRecord> RunStore::Users() const {
  return impl_->Rows<UserRecord>(StoreTable::kUsers, "");
}

std::optional<std::int64_t> RunStore::JobOfSubmissionKey(const std::string& key) const {
  const std::optional<std::string> value = impl_->Get(StoreTable::kSubmissionKeys, key);
  if (!value) return std::nullopt;
  if (value->size() != kInt64KeySize) impl_->ThrowDamagedRow(StoreTable::kSubmissionKeys);
  return ParseInt64Key(*value);
}

std::vector<Transition> RunStore::Transitions(std::int64_t job) const {
  return impl_->Rows<Transition>(StoreTable::kTransitions, Int64Key(job));
}

std::vector<ShardPlanProto> RunStore::ShardPlans(std::int64_t job) const {
  return impl_->Rows<ShardPlanProto>(StoreTable::kPlans, Int64Key(job));
}

std::vector<CheckpointManifest> RunStore::Checkpoints(std::int64_t job) const {
  return impl_->Rows<CheckpointManifest>(StoreTable::kCheckpoints, Int64Key(job));
}

std::vector<MetricSeries> RunStore::Metrics(std::int64_t job, const std::vector<std::string>& names,
                                            std::int64_t after_step) const {
  std::vector<MetricSeries> all;
  if (after_step == std::numeric_limits<std::int64_t>::max()) return all;
  const auto rows = impl_->NewIterator(StoreTable::kMetrics);
  std::set<std::string> wanted;
  if (names.empty()) wanted = impl_->MetricNames(rows.get(), job, "");
  for (const std::string& name : names) {
    if (name.ends_with('/')) {
      wanted.merge(impl_->MetricNames(rows.get(), job, name));
    } else if (IsMetricName(name)) {
      wanted.insert(name);
    }
  }
  for (const std::string& name : wanted) {
    const std::string prefix = MetricPrefix(job, name);
    rows->Seek(prefix + Int64Key(after_step + 1));
    MetricSeries series = impl_->ReadSeries(rows.get(), prefix, name);
    if (series.steps_size() > 0) all.push_back(std::move(series));
  }
  impl_->CheckEnd(*rows);
  return all;
}

std::vector<MetricPoint> RunStore::LastPoints(std::int64_t job) const {
  std::vector<MetricPoint> points;
  const auto rows = impl_->NewIterator(StoreTable::kMetrics);
  for (const std::string& name : impl_->MetricNames(rows.get(), job, "")) {
    rows->SeekForPrev(LastMetricKey(job, name));
    impl_->CheckEnd(*rows);
    MetricSeries last;
    impl_->AppendPoint(impl_->ParseKey(rows->key()), rows->value(), &last);
    MetricPoint& point = points.emplace_back();
    point.set_name(name);
    point.set_step(last.steps(0));
    point.set_value(last.values(0));
    point.set_time_ms(last.times_ms(0));
  }
  return points;
}

}  // namespace fr
