#pragma once
// fr-coordinator as a process of its own, for benchmarks that drive the real program.

#include <filesystem>
#include <string>
#include <vector>

#include <sys/types.h>

namespace fr {

// Listens on free ports of the loopback. Its one node, localhost, is for the caller to drain.
class CoordinatorProcess {
 public:
  // Writes `directory`/coordinator.yaml; jobs and the database go below `directory`, and the
  // program's log into `directory`/log.
  explicit CoordinatorProcess(const std::filesystem::path& directory);
  ~CoordinatorProcess();  // Kill()
  CoordinatorProcess(const CoordinatorProcess&) = delete;
  CoordinatorProcess& operator=(const CoordinatorProcess&) = delete;

  // Starts the program that lies beside this one, waits until /readyz says yes, and returns how
  // many seconds that took. Throws Error(kUnavailable) when the program ends first, naming its log.
  double Start();
  void Kill();  // SIGKILL; nothing happens if it does not run

  const std::string& rpc_address() const { return rpc_address_; }
  static std::filesystem::path StoreDirectory(const std::filesystem::path& directory);

 private:
  bool IsReady() const;

  std::filesystem::path directory_;
  std::string rpc_address_;
  int http_port_ = 0;
  pid_t pid_ = 0;
};

}  // namespace fr
