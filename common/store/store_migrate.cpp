#include "common/store/store_migrate.h"

#include <cstdint>
#include <memory>
#include <string>

#include <fmt/format.h>
#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/write_batch.h>

#include "common/base/fail_point.h"
#include "common/base/logging.h"
#include "common/store/store_key.h"
#include "proto/record.pb.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

std::unique_ptr<rocksdb::Iterator> NewIterator(const OpenedDatabase& opened, StoreTable table) {
  return std::unique_ptr<rocksdb::Iterator>(
      opened.database->NewIterator(rocksdb::ReadOptions(), opened.Family(table)));
}

void CheckStatus(const rocksdb::Status& status, const fs::path& directory, const char* verb) {
  if (!status.ok()) ThrowStoreError(status, directory, verb);
}

// Gives the record of a format 1 job what format 2 wants to know. `transitions` stands at the
// job's first, and is left behind its last.
void CompleteRecord(rocksdb::Iterator* transitions, JobRecord* record) {
  const std::string prefix = Int64Key(record->number());
  std::int64_t count = 0;
  for (; transitions->Valid() && transitions->key().starts_with(prefix); transitions->Next()) {
    ++count;
  }
  record->set_transitions(count);
  record->set_owner(record->submitter().substr(0, record->submitter().find('@')));
  record->set_waiting_since_ms(record->submitted_ms());
  record->clear_yaml();
}

}  // namespace

void MigrateFromFormat1(const OpenedDatabase& opened, const fs::path& directory) {
  rocksdb::WriteBatch batch;
  const auto put = [&](StoreTable table, const rocksdb::Slice& key, const std::string& value) {
    CheckStatus(batch.Put(opened.Family(table), key, value), directory, "write");
  };
  const auto jobs = NewIterator(opened, StoreTable::kJobs);
  const auto transitions = NewIterator(opened, StoreTable::kTransitions);
  std::int64_t count = 0;
  for (jobs->SeekToFirst(); jobs->Valid(); jobs->Next(), ++count) {
    JobRecord record;
    const rocksdb::Slice value = jobs->value();
    if (!record.ParseFromArray(value.data(), static_cast<int>(value.size())) ||
        jobs->key() != Int64Key(record.number())) {
      ThrowDamagedRow(directory, StoreTable::kJobs);
    }
    if (record.has_yaml()) put(StoreTable::kJobFiles, jobs->key(), record.yaml());
    transitions->Seek(jobs->key());
    CompleteRecord(transitions.get(), &record);
    CheckStatus(transitions->status(), directory, "read");
    put(StoreTable::kJobs, jobs->key(), record.SerializeAsString());
    put(StoreTable::kJobIndex, jobs->key(), JobIndexValue(IndexRowOf(record)));
  }
  CheckStatus(jobs->status(), directory, "read");
  put(StoreTable::kDefault, kStoreFormatKey, kStoreFormat);
  rocksdb::WriteOptions options;
  options.sync = true;
  FR_FAIL_POINT("store: before migration");
  CheckStatus(opened.database->Write(options, &batch), directory, "write");
  FR_FAIL_POINT("store: after migration");
  spdlog::info("{}: {} jobs brought up from format 1 to format {}", directory.string(), count,
               kStoreFormat);
}

}  // namespace fr
