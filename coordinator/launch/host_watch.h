#pragma once
// Looks at hosts over ssh, and ends what an attempt has left there.

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "common/base/file.h"
#include "coordinator/launch/launcher.h"
#include "proto/coordinator.pb.h"

namespace fr {

// Of this machine: found out anew, its GPUs by NVML (common/base/gpu_inventory.h). Logs what keeps
// them from being found.
NodeReport LookAtThisMachine();

// Every host is asked every ssh.probe_every for its cores, memory and GPUs, some of them at a time,
// by threads of its own. Thread-safe.
class HostWatch {
 public:
  HostWatch(const std::vector<std::string>& hosts, const SshSpec& ssh);
  ~HostWatch();  // kills the ssh commands under way
  HostWatch(const HostWatch&) = delete;
  HostWatch& operator=(const HostWatch&) = delete;

  // The latest that is known. UNKNOWN until the host has answered, DOWN once it has failed to twice
  // in a row, with ssh's words. An empty one for a host that is not watched.
  NodeReport Report(const std::string& host) const;

  // Kills all that carries the mark of the attempt's `directory` (session.h) on `host`: as soon as
  // it can be reached, and if that is not now, when it is back. Returns at once.
  void Sweep(const std::string& host, const std::string& directory);

  enum class Swept {
    kNotAsked,
    kUnderWay,
    kDone,
    kUnreachable,  // it did not answer; it will be swept once it is back
  };
  // How the latest sweep of these stands. Only the last few hundred of a host are remembered.
  Swept StateOf(const std::string& host, const std::string& directory) const;

 private:
  struct SweepState {
    std::string directory;
    Swept state = Swept::kUnderWay;
    std::int64_t number = 0;  // tells it from a later one of the same directory
  };
  struct Host {
    NodeReport report;
    int failures = 0;         // in a row
    std::int64_t due_ms = 0;  // steady clock: when it is to be asked
    bool is_asked = false;    // just now
    std::deque<SweepState> sweeps;
  };

  void Loop(const std::stop_token& stop);
  Host* NextDue(std::int64_t* wait_ms);
  void Ask(Host& host, std::unique_lock<std::mutex>& lock);
  void Settle(Host& host, const NodeReport& answer, const std::vector<std::int64_t>& swept);
  std::size_t IndexOf(const std::string& name) const;  // the number of hosts: not watched

  const SshSpec ssh_;
  const std::vector<std::string> command_;
  const FileDescriptor cancel_;  // readable once this goes
  mutable std::mutex mutex_;     // of all below
  std::condition_variable_any changed_;
  std::vector<Host> hosts_;  // their number does not change
  std::int64_t sweeps_asked_ = 0;
  std::vector<std::jthread> threads_;  // last: they end before the rest goes
};

}  // namespace fr
