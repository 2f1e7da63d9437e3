// Databases of format 1, written as the program of that time did, through RocksDB alone.

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rocksdb/db.h>

#include "common/base/error.h"
#include "common/base/temporary_directory.h"
#include "common/store/run_store.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string> kTables = {"default",     "jobs",    "transitions",    "plans",
                                          "checkpoints", "metrics", "submission_keys"};

// Eight bytes, big-endian, the sign bit inverted.
std::string Number(unsigned char number) {
  return std::string("\x80\0\0\0\0\0\0", 7) + static_cast<char>(number);
}

struct RawStore {
  std::unique_ptr<rocksdb::DB> database;
  std::vector<rocksdb::ColumnFamilyHandle*> families;

  RawStore(const fs::path& path, const std::vector<std::string>& tables) {
    rocksdb::Options options;
    options.create_if_missing = true;
    options.create_missing_column_families = true;
    options.compression = rocksdb::kNoCompression;
    std::vector<rocksdb::ColumnFamilyDescriptor> descriptors;
    for (const std::string& name : tables) descriptors.emplace_back(name, options);
    rocksdb::DB* opened = nullptr;
    const rocksdb::Status status =
        rocksdb::DB::Open(options, path.string(), descriptors, &families, &opened);
    if (!status.ok()) throw Error(ErrorCode::kIo, status.ToString());
    database.reset(opened);
  }
  RawStore(const RawStore&) = delete;
  RawStore& operator=(const RawStore&) = delete;
  ~RawStore() {
    for (rocksdb::ColumnFamilyHandle* family : families) {
      database->DestroyColumnFamilyHandle(family);
    }
  }

  void Put(std::size_t table, const std::string& key, const std::string& value) {
    ASSERT_TRUE(database->Put(rocksdb::WriteOptions(), families[table], key, value).ok());
  }
};

class StoreMigrateTest : public testing::Test {
 protected:
  fs::path path() const { return directory_.path() / "store"; }

  static std::string JobRow(int number, JobState state, const std::string& submitter) {
    JobRecord job;
    job.set_number(number);
    job.set_id("job-" + std::to_string(number));
    job.set_state(state);
    job.set_yaml("name: run-" + std::to_string(number) + "\n");
    job.set_submitter(submitter);
    job.set_submitted_ms(1000 + number);
    if (number == 2) job.mutable_launch()->set_pid(77);
    return job.SerializeAsString();
  }

  // Job 1 runs, job 2 has ended but not its processes, job 3 has ended.
  static void WriteFormat1(const fs::path& path) {
    fs::create_directories(path);
    RawStore raw(path, kTables);
    raw.Put(0, "format", "1");
    raw.Put(1, Number(1), JobRow(1, JobState::RUNNING, "ada@lab"));
    raw.Put(1, Number(2), JobRow(2, JobState::FAILED, "bob"));
    raw.Put(1, Number(3), JobRow(3, JobState::COMPLETED, ""));
    for (const auto& [job, index] : {std::pair(1, 0), {1, 1}, {1, 2}, {3, 0}}) {
      Transition transition;
      transition.set_time_ms(10 * job + index);
      raw.Put(2, Number(job) + Number(index), transition.SerializeAsString());
    }
    raw.Put(6, "key", Number(3));
  }

  static void ExpectFormat2(const RunStore& store) {
    ASSERT_EQ(store.LiveJobs().size(), 2U);
    EXPECT_EQ(store.LiveJobs()[0].number(), 1);
    EXPECT_EQ(store.LiveJobs()[1].launch().pid(), 77);
    EXPECT_THAT(store.CountJobs(), testing::ElementsAre(testing::Pair(JobState::RUNNING, 1),
                                                        testing::Pair(JobState::COMPLETED, 1),
                                                        testing::Pair(JobState::FAILED, 1)));
    EXPECT_EQ(store.LastJobNumber(), 3);
    const JobRecord first = store.Job(1).value();
    EXPECT_FALSE(first.has_yaml());
    EXPECT_EQ(first.owner(), "ada");
    EXPECT_EQ(first.submitter(), "ada@lab");
    EXPECT_EQ(first.waiting_since_ms(), 1001);
    EXPECT_EQ(first.transitions(), 3);
    EXPECT_EQ(store.Job(2)->owner(), "bob");
    EXPECT_EQ(store.Job(2)->transitions(), 0);
    EXPECT_EQ(store.Job(3)->transitions(), 1);
    EXPECT_EQ(store.JobFile(2), "name: run-2\n");
    EXPECT_EQ(store.Transitions(1)[2].time_ms(), 12);
    EXPECT_EQ(store.JobOfSubmissionKey("key"), 3);
    JobFilter of_ada;
    of_ada.owner = "ada";
    EXPECT_EQ(store.Jobs(of_ada).jobs.size(), 1U);
  }

  TemporaryDirectory directory_;
};

// Nothing is lost, and what format 2 asks of a job beyond that is there, at this start and the
// next.
TEST_F(StoreMigrateTest, Format1IsBroughtUp) {
  WriteFormat1(path());
  ExpectFormat2(RunStore(path()));
  ExpectFormat2(RunStore(path()));
}

TEST_F(StoreMigrateTest, AnEmptyFormat1IsAnEmptyStore) {
  fs::create_directories(path());
  RawStore(path(), kTables).Put(0, "format", "1");
  const RunStore store(path());
  EXPECT_TRUE(store.CountJobs().empty());
}

// Damage found on the way is named, and the database stays as it was.
TEST_F(StoreMigrateTest, ADamagedRowStopsItBeforeAnythingChanges) {
  WriteFormat1(path());
  RawStore(path(), kTables).Put(1, Number(2), "\xff nonsense");
  for (int start = 0; start < 2; ++start) {
    try {
      const RunStore store(path());
      ADD_FAILURE() << "opened";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kDataLoss);
      EXPECT_THAT(error.what(), testing::HasSubstr("'jobs'"));
    }
  }
  std::vector<std::string> tables = kTables;
  for (const char* name : {"job_index", "job_files", "nodes", "users"}) tables.emplace_back(name);
  {
    RawStore raw(path(), tables);
    std::string format;
    ASSERT_TRUE(raw.database->Get({}, raw.families[0], "format", &format).ok());
    EXPECT_EQ(format, "1");
    raw.Put(1, Number(2), JobRow(2, JobState::FAILED, "bob"));
  }
  ExpectFormat2(RunStore(path()));
}

TEST_F(StoreMigrateTest, ALaterFormatIsRefused) {
  { const RunStore store(path()); }
  std::vector<std::string> tables = kTables;
  for (const char* name : {"job_index", "job_files", "nodes", "users"}) tables.emplace_back(name);
  RawStore(path(), tables).Put(0, "format", "3");
  try {
    const RunStore store(path());
    ADD_FAILURE() << "opened";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kFailedPrecondition);
    EXPECT_THAT(error.what(), testing::HasSubstr("format 3"));
  }
}

#ifdef FR_FAIL_POINTS

// Runs `work` in a process of its own that has FR_FAIL_POINT; it must be killed there. `directory`
// is the same in both, although the other process begins the test anew.
class StoreKilledDeathTest : public StoreMigrateTest {
 protected:
  StoreKilledDeathTest() {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    setenv("FR_TEST_STORE", path().c_str(), 0);
  }
  ~StoreKilledDeathTest() override { unsetenv("FR_TEST_STORE"); }
  static fs::path shared() { return std::getenv("FR_TEST_STORE"); }
};

// Killed before the batch is written, or after: format 1 as it was, or format 2.
TEST_F(StoreKilledDeathTest, MigrationIsAllOrNothing) {
  for (const char* point : {"store: before migration", "store: after migration"}) {
    EXPECT_EXIT(
        {
          WriteFormat1(shared());
          setenv("FR_FAIL_POINT", point, 1);
          const RunStore store(shared());
        },
        testing::KilledBySignal(SIGKILL), point);
    ExpectFormat2(RunStore(shared()));
    fs::remove_all(shared());
  }
}

// A batch whose writer was killed before it was written is not there, in no part; afterwards, all.
TEST_F(StoreKilledDeathTest, ACommitIsAllOrNothing) {
  for (const std::string when : {"before", "after"}) {
    const std::string point = "submit: " + when + " commit";
    EXPECT_EXIT(
        {
          setenv("FR_FAIL_POINT", point.c_str(), 1);
          RunStore store(shared());
          JobRecord job;
          job.set_number(1);
          StoreBatch batch;
          batch.PutJob(job);
          batch.PutSubmissionKey("key", 1);
          store.Commit(std::move(batch), "submit");
        },
        testing::KilledBySignal(SIGKILL), point);
    const RunStore store(shared());
    const bool written = when == "after";
    EXPECT_EQ(store.Job(1).has_value(), written);
    EXPECT_EQ(store.LastJobNumber(), written ? 1 : 0);
    EXPECT_EQ(store.JobOfSubmissionKey("key").has_value(), written);
  }
}

#endif

}  // namespace
}  // namespace fr
