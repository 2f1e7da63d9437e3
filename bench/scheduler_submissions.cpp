// bench_scheduler submissions: durable submissions per second of a real fr-coordinator over its
// RPC, next to one fdatasync for each, which is the most that a coordinator could do which makes
// one submission durable after the other.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>

#include "bench/coordinator_process.h"
#include "bench/measure.h"
#include "bench/scheduler_commands.h"
#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/temporary_directory.h"
#include "common/cli/run_command.h"
#include "common/rpc/client.h"
#include "common/store/run_store.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kTimeoutMs = 60'000;

struct Setting {
  int clients = 64;
  double seconds = 5;
  std::string directory;  // "": where temporary files go
};

struct Figures {
  std::int64_t count = 0;
  double seconds = 0;
  std::vector<double> latencies;  // seconds

  double per_second() const { return static_cast<double>(count) / seconds; }
};

// What a person's fr-submit sends: a job and its file.
SubmitJobRequest Submission(const std::string& key) {
  SubmitJobRequest request;
  JobSpec& spec = *request.mutable_spec();
  spec.set_name("ms1m-r50-arcface");
  spec.mutable_resources()->set_workers(1);
  spec.mutable_data()->set_train("/data/faces_ms1m_112x112");
  for (const char* set : {"lfw", "cfp_fp", "agedb_30"}) spec.mutable_data()->add_validation(set);
  spec.mutable_checkpoint()->set_keep(3);
  request.set_yaml(std::string(1500, '#'));
  request.set_submitter("ada@lab");
  request.set_submission_key(key);
  return request;
}

// `clients` threads that each do one thing after the other, until the time is up.
// `make_client(i)` is called within thread i and returns what does one.
template <typename MakeClient>
Figures Repeat(const Setting& setting, int clients, MakeClient make_client) {
  std::vector<std::vector<double>> latencies(static_cast<std::size_t>(clients));
  std::atomic<bool> failed = false;
  std::string failure;
  const Clock::time_point begin = Clock::now();
  {
    std::vector<std::jthread> threads;
    threads.reserve(static_cast<std::size_t>(clients));
    for (int i = 0; i < clients; ++i) {
      threads.emplace_back([&, i] {
        try {
          auto once = make_client(i);
          std::int64_t number = 0;
          while (!failed && SecondsSince(begin) < setting.seconds) {
            latencies[static_cast<std::size_t>(i)].push_back(Seconds([&] { once(number); }));
            ++number;
          }
        } catch (const Error& error) {
          if (!failed.exchange(true)) failure = error.what();
        }
      });
    }
  }
  if (failed) throw Error(ErrorCode::kUnavailable, failure);
  Figures figures;
  figures.seconds = SecondsSince(begin);
  for (const std::vector<double>& of_client : latencies) {
    figures.latencies.insert(figures.latencies.end(), of_client.begin(), of_client.end());
  }
  figures.count = std::ssize(figures.latencies);
  return figures;
}

// The reference: the bytes of a submission appended to a file, and that synced, one at a time.
Figures SyncEach(const Setting& setting, const fs::path& file) {
  const std::string bytes = Submission("key").SerializeAsString();
  return Repeat(setting, 1, [&](int) {
    auto log = std::make_shared<FileDescriptor>(
        open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
    return [log, &bytes, &file](std::int64_t) {
      const bool written =
          write(log->get(), bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size());
      if (!written || fdatasync(log->get()) != 0) {
        throw Error(ErrorCode::kIo, file.string() + ": " + ErrnoText());
      }
    };
  });
}

// The store alone, with as many threads as there are clients.
Figures CommitEach(const Setting& setting, const fs::path& directory) {
  RunStore store(directory);
  std::atomic<std::int64_t> last_number = 0;
  return Repeat(setting, setting.clients, [&](int client) {
    return [&, client](std::int64_t number) {
      const SubmitJobRequest request = Submission(fmt::format("{}-{}", client, number));
      JobRecord record;
      record.set_number(++last_number);
      *record.mutable_spec() = request.spec();
      StoreBatch batch;
      batch.PutJob(record);
      batch.PutJobFile(record.number(), request.yaml());
      batch.PutSubmissionKey(request.submission_key(), record.number());
      store.Commit(std::move(batch));
    };
  });
}

void DrainNode(const std::string& address) {
  Request request;
  request.mutable_drain_node()->set_node("localhost");
  request.mutable_drain_node()->set_reason("benchmark: jobs are to wait");
  RpcClient(address).Call(request, kTimeoutMs);
}

Figures SubmitEach(const Setting& setting, const std::string& address) {
  return Repeat(setting, setting.clients, [&](int client) {
    auto rpc = std::make_shared<RpcClient>(address);
    return [rpc, client](std::int64_t number) {
      Request request;
      *request.mutable_submit_job() = Submission(fmt::format("{}-{}", client, number));
      rpc->Call(std::move(request), kTimeoutMs);
    };
  });
}

void Print(const char* what, Figures figures, const Figures& reference) {
  std::vector<double>& latencies = figures.latencies;
  std::sort(latencies.begin(), latencies.end());
  const auto ms = [&](double part) {
    const double last = static_cast<double>(latencies.size() - 1);
    return 1e3 * latencies[static_cast<std::size_t>(part * last)];
  };
  fmt::print("{:<34} {:>8.0f}/s {:>7.2f}x   {:>8.2f} {:>8.2f} {:>8.2f}\n", what,
             figures.per_second(), figures.per_second() / reference.per_second(), ms(0.5), ms(0.99),
             ms(1));
}

void Run(const Setting& setting) {
  if (!setting.directory.empty()) setenv("TMPDIR", setting.directory.c_str(), 1);
  const TemporaryDirectory directory;
  fmt::print("{} clients, {} s each; ms: median, 99 % and the longest\n", setting.clients,
             setting.seconds);
  const Figures synced = SyncEach(setting, directory.path() / "synced");
  Print("one fdatasync each (reference)", synced, synced);
  Print("RunStore::Commit", CommitEach(setting, directory.path() / "store"), synced);
  CoordinatorProcess coordinator(directory.path());
  coordinator.Start();
  DrainNode(coordinator.rpc_address());
  const Figures submitted = SubmitEach(setting, coordinator.rpc_address());
  Print("fr-coordinator over RPC", submitted, synced);
  // Killed and started again: what was acknowledged is there.
  coordinator.Kill();
  const RunStore store(CoordinatorProcess::StoreDirectory(directory.path()));
  fmt::print("{} acknowledged, {} jobs after a kill\n", submitted.count, store.LastJobNumber());
}

}  // namespace

void AddSubmissionsCommand(CLI::App* app, std::function<int()>* command) {
  const auto setting = std::make_shared<Setting>();
  CLI::App* submissions = app->add_subcommand("submissions", "Durable submissions per second");
  submissions->add_option("--clients", setting->clients, "that submit at a time")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  submissions->add_option("--seconds", setting->seconds, "of each candidate")
      ->capture_default_str();
  submissions->add_option("--directory", setting->directory, "on the disk that is to be measured");
  submissions->callback([setting, command] {
    *command = [setting] {
      Run(*setting);
      return kExitDone;
    };
  });
}

}  // namespace fr
