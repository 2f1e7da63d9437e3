#pragma once
// Opening the run store's RocksDB database, and its failures in our words.

#include <filesystem>
#include <memory>
#include <vector>

#include <rocksdb/db.h>

#include "common/store/store_key.h"

namespace fr {

// Owns the handles, which must go before the database.
struct OpenedDatabase {
  std::unique_ptr<rocksdb::DB> database;
  std::vector<rocksdb::ColumnFamilyHandle*> families;  // by StoreTable

  rocksdb::ColumnFamilyHandle* Family(StoreTable table) const {
    return families[static_cast<std::size_t>(table)];
  }

  OpenedDatabase() = default;
  OpenedDatabase(OpenedDatabase&&) noexcept = default;
  OpenedDatabase& operator=(OpenedDatabase&& other) noexcept;
  ~OpenedDatabase();
};

// The errors are those of RunStore's constructor.
OpenedDatabase OpenDatabase(const std::filesystem::path& directory);

// Throws Error(kDataLoss).
[[noreturn]] void ThrowDamagedRow(const std::filesystem::path& directory, StoreTable table);

// `verb`: what failed, "open" or "read" or "write".
[[noreturn]] void ThrowStoreError(const rocksdb::Status& status,
                                  const std::filesystem::path& directory, const char* verb);

}  // namespace fr
