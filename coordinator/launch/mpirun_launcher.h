#pragma once
// Launchers `local` and `hosts`: mpirun on this machine, which starts workers here or on other
// machines over ssh.
//
// mpirun runs under a supervisor, a shell that leads a session of its own: it claims the attempt
// (attempt_files.h), survives the signal that ends mpirun, and writes its exit status down. All
// that runs here belongs to that session. What runs on other hosts has the attempt's mark in its
// environment (session.h).

#include <memory>
#include <string>
#include <vector>

#include "coordinator/launch/host_watch.h"
#include "coordinator/launch/launcher.h"

namespace fr {

class MpirunLauncher : public Launcher {
 public:
  // For spec.launcher() local or hosts. Looks at this machine; hosts are looked at by and by.
  // Throws Error(kInvalidArgument) for a node or an ssh command that cannot work.
  MpirunLauncher(const CoordinatorSpec& spec, std::string worker);

  LaunchRecord Start(const LaunchRequest& request) override;
  std::optional<LaunchRecord> Recover(const LaunchRequest& request) override;
  std::vector<AttemptStatus> Look(const std::vector<LaunchRecord>& records) override;
  void Stop(const LaunchRecord& record, StopMode mode) override;
  std::vector<NodeReport> Nodes() override;

 private:
  struct Sweeping {
    bool is_under_way = false;
    std::vector<std::string> unreachable;  // hosts
  };

  AttemptStatus StatusOfEnded(const LaunchRecord& record);
  Sweeping SweepOnce(const LaunchRecord& record);

  const CoordinatorSpec spec_;
  const std::string worker_;
  const NodeReport this_machine_;
  std::unique_ptr<HostWatch> hosts_;  // null: there are none but this machine
};

}  // namespace fr
