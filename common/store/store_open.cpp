#include "common/store/store_open.h"

#include <cstddef>
#include <string>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/store/store_key.h"
#include "common/store/store_migrate.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

rocksdb::DBOptions DatabaseOptions() {
  rocksdb::DBOptions options;
  options.create_if_missing = true;
  options.create_missing_column_families = true;
  // A torn last record is what kill -9 leaves: it was never acknowledged. Damage before it is
  // an error, where RocksDB's default would silently drop all that follows.
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  options.max_total_wal_size = 64 << 20;
  options.max_background_jobs = 2;
  options.info_log_level = rocksdb::InfoLogLevel::WARN_LEVEL;
  options.keep_log_file_num = 4;
  return options;
}

rocksdb::ColumnFamilyOptions TableOptions() {
  rocksdb::ColumnFamilyOptions options;
  // Rows are small; a database must open wherever it is moved, whatever RocksDB was built with.
  options.compression = rocksdb::kNoCompression;
  options.bottommost_compression = rocksdb::kNoCompression;
  options.write_buffer_size = 8 << 20;
  return options;
}

// With CURRENT gone, RocksDB would take the directory for an empty one and start afresh on top of
// the data. (A creation that was killed leaves a first MANIFEST, but no log and no table.)
void CheckNotBeheaded(const fs::path& directory) {
  std::error_code error;
  if (fs::exists(directory / "CURRENT", error)) return;
  fs::directory_iterator entries(directory, error);
  if (error) return;  // RocksDB will say why
  for (const fs::directory_entry& entry : entries) {
    const fs::path extension = entry.path().extension();
    if (extension != ".sst" && extension != ".log") continue;
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: the database is damaged: its file CURRENT is missing; restore "
                            "the directory from a backup",
                            directory.string()));
  }
}

// RocksDB's words for a LOCK file that somebody holds; there is no code for it.
bool IsLocked(const rocksdb::Status& status) {
  const std::string text = status.ToString();
  return status.IsIOError() && (text.find("lock hold by current process") != std::string::npos ||
                                text.find("While lock file") != std::string::npos);
}

// " (process 123)" for another process that holds the lock. Never asked for a lock of our own:
// closing any descriptor of the file would drop it.
std::string LockHolder(const fs::path& directory, const rocksdb::Status& status) {
  if (status.ToString().find("current process") != std::string::npos) return " (this very process)";
  const FileDescriptor file(open((directory / "LOCK").c_str(), O_RDWR | O_CLOEXEC));
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  if (!file.valid() || fcntl(file.get(), F_GETLK, &lock) != 0 || lock.l_type == F_UNLCK) return "";
  return fmt::format(" (process {})", static_cast<long>(lock.l_pid));
}

[[noreturn]] void ThrowOpenError(const rocksdb::Status& status, const fs::path& directory) {
  if (IsLocked(status)) {
    throw Error(ErrorCode::kUnavailable,
                fmt::format("{}: another process{} has this database open; end it first, or choose "
                            "another directory",
                            directory.string(), LockHolder(directory, status)));
  }
  if (status.IsInvalidArgument()) {
    throw Error(ErrorCode::kFailedPrecondition,
                fmt::format("{}: this is the database of another program or of a later version: {}",
                            directory.string(), status.ToString()));
  }
  ThrowStoreError(status, directory, "open");
}

// The layout's version, written into a new database and asked of an old one.
void CheckFormat(const OpenedDatabase& opened, const fs::path& directory) {
  rocksdb::DB& database = *opened.database;
  std::string format;
  const rocksdb::Status status = database.Get(rocksdb::ReadOptions(), kStoreFormatKey, &format);
  if (status.IsNotFound()) {
    rocksdb::WriteOptions options;
    options.sync = true;
    const rocksdb::Status written = database.Put(options, kStoreFormatKey, kStoreFormat);
    if (!written.ok()) ThrowStoreError(written, directory, "write");
    return;
  }
  if (!status.ok()) ThrowStoreError(status, directory, "read");
  if (format == "1") {
    MigrateFromFormat1(opened, directory);
  } else if (format != kStoreFormat) {
    throw Error(ErrorCode::kFailedPrecondition,
                fmt::format("{}: the database has format {}, this program reads format {}; use the "
                            "version that wrote it",
                            directory.string(), format, kStoreFormat));
  }
}

}  // namespace

OpenedDatabase& OpenedDatabase::operator=(OpenedDatabase&& other) noexcept {
  std::swap(database, other.database);
  std::swap(families, other.families);
  return *this;
}

OpenedDatabase::~OpenedDatabase() {
  for (rocksdb::ColumnFamilyHandle* family : families) {
    if (database) database->DestroyColumnFamilyHandle(family);
  }
}

OpenedDatabase OpenDatabase(const fs::path& directory) {
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) {
    throw Error(ErrorCode::kIo, fmt::format("{}: cannot make this directory: {}",
                                            directory.string(), error.message()));
  }
  CheckNotBeheaded(directory);
  std::vector<rocksdb::ColumnFamilyDescriptor> tables;
  for (std::size_t i = 0; i < kNumStoreTables; ++i) {
    tables.emplace_back(StoreTableName(static_cast<StoreTable>(i)), TableOptions());
  }
  OpenedDatabase opened;
  rocksdb::DB* database = nullptr;
  const rocksdb::Status status =
      rocksdb::DB::Open(DatabaseOptions(), directory.string(), tables, &opened.families, &database);
  opened.database.reset(database);
  if (!status.ok()) ThrowOpenError(status, directory);
  CheckFormat(opened, directory);
  return opened;
}

void ThrowDamagedRow(const fs::path& directory, StoreTable table) {
  throw Error(ErrorCode::kDataLoss,
              fmt::format("{}: a row of table '{}' is not what was written; restore the directory "
                          "from a backup",
                          directory.string(), StoreTableName(table)));
}

void ThrowStoreError(const rocksdb::Status& status, const fs::path& directory, const char* verb) {
  const std::string where = directory.string();
  const std::string text = status.ToString();
  if (status.IsNoSpace()) {
    throw Error(ErrorCode::kResourceExhausted,
                fmt::format("{}: cannot {} the database: the disk is full; make room there and "
                            "start again ({})",
                            where, verb, text));
  }
  if (status.IsCorruption()) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: the database is damaged: {}; restore the directory from a backup",
                            where, text));
  }
  throw Error(ErrorCode::kIo, fmt::format("{}: cannot {} the database: {}", where, verb, text));
}

}  // namespace fr
