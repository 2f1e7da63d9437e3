#pragma once
// Starting, watching and ending the processes of an attempt. One interface, four ways: mpirun on
// this machine, mpirun over ssh, Slurm, Kubernetes. docs/launchers.md is the users' page.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "proto/coordinator.pb.h"
#include "proto/record.pb.h"
#include "proto/rpc.pb.h"

namespace fr {

struct LaunchRequest {
  std::string job_id;
  int attempt = 0;
  int threads_per_worker = 1;
  std::vector<NodeSlots> slots;   // ranks fill them in this order
  std::int64_t worker_bytes = 0;  // memory that is set aside for a worker; 0: not known
  bool takes_gpus = false;        // each worker one
  std::string coordinator;        // address that the workers can reach
  std::filesystem::path
      directory;  // of the attempt, on a file system that all nodes see; made here
};

enum class AttemptPhase {
  kUnknown,  // the launcher cannot tell just now (Slurm does not answer): ask again
  kQueued,   // taken, but not running yet: the cluster has a queue of its own
  kRunning,  // has processes, or may have
  kEnded,    // has none, and never will
};

struct AttemptStatus {
  AttemptPhase phase = AttemptPhase::kUnknown;
  // Once ended: what mpirun or srun returned (128 + signal if a signal killed it); nothing when it
  // was killed together with its supervisor, or its machine is gone.
  std::optional<int> exit_status;
  // In words, may be empty: why it is queued, why it cannot be told, what ended it from outside
  // ("Slurm: NODE_FAIL", "scancel by user 1000").
  std::string reason;
  // Those that are to blame for its end, where the launcher can tell.
  std::vector<std::string> failed_nodes;
  // They did not answer (any more), rather than that a worker of theirs ended: the job is not to
  // blame, and no attempt goes there until they have been seen again.
  bool nodes_lost = false;
};

// What the launcher last saw of a node.
struct NodeReport {
  std::string name;
  NodeStatus::Liveness liveness = NodeStatus::UNKNOWN;
  std::string reason;        // why it is down, or which part of a cluster is
  std::int64_t seen_ms = 0;  // Unix time of the last answer; 0: never
  int cpus = 0;              // 0: not known
  int gpus = 0;
  std::vector<GpuDescription> gpu_list;  // in the order of their numbers; empty: not known
  std::int64_t memory_bytes = 0;         // 0: not known
  std::optional<int> usable_slots;       // fewer than configured: part of a cluster is down
};

enum class StopMode {
  kAsk,   // SIGTERM: workers end without a checkpoint
  kKill,  // SIGKILL, everything that belongs to the attempt, wherever it runs
};

// Keeps nothing that matters in memory: a coordinator that was killed and started again asks about
// the same LaunchRecord and gets the same answers. Calls may take as long as the cluster takes to
// answer (a few seconds at most), so never hold a lock over one. Used by one thread.
class Launcher {
 public:
  virtual ~Launcher() = default;

  // Starts the attempt, which outlives this process. The record has the request's directory and
  // slots. Throws Error when nothing was started: kUnavailable and kResourceExhausted where the
  // same may succeed later (a cluster that does not answer, a full disk), and the job is not to
  // blame.
  virtual LaunchRecord Start(const LaunchRequest& request) = 0;

  // After a coordinator died around Start(request): the record of what that call has started, or
  // nothing, and then that call can start nothing any more, however late it comes. Throws
  // Error(kUnavailable) when it cannot be told yet.
  virtual std::optional<LaunchRecord> Recover(const LaunchRequest& request) = 0;

  // How the attempts stand, in the order of `records`. Never throws for an attempt's or a cluster's
  // state: that is kUnknown, with the reason.
  virtual std::vector<AttemptStatus> Look(const std::vector<LaunchRecord>& records) = 0;

  // An attempt that has ended is no error, and neither is a cluster that does not answer: the
  // caller looks, and asks again.
  virtual void Stop(const LaunchRecord& record, StopMode mode) = 0;

  // One report for each configured node, in that order; the latest that is known, at once.
  virtual std::vector<NodeReport> Nodes() = 0;

  // Whether this launcher's nodes are machines whose GPUs and cores the coordinator deals out one
  // by one; otherwise a node is a whole cluster that does so by itself, and only slots are counted.
  virtual bool DealsOutMachines() const { return true; }
};

// The launcher of kind `spec.launcher()`. `worker`: path of fr-worker on the nodes. Throws
// Error(kInvalidArgument | kNotFound) for what its configuration lacks.
std::unique_ptr<Launcher> MakeLauncher(const CoordinatorSpec& spec, const std::string& worker);

}  // namespace fr
