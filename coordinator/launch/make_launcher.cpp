#include "common/base/error.h"
#include "coordinator/launch/kubernetes_launcher.h"
#include "coordinator/launch/launcher.h"
#include "coordinator/launch/mpirun_launcher.h"
#include "coordinator/launch/slurm_launcher.h"

namespace fr {

std::unique_ptr<Launcher> MakeLauncher(const CoordinatorSpec& spec, const std::string& worker) {
  switch (spec.launcher()) {
    case LauncherKind::local:
    case LauncherKind::hosts:
      return std::make_unique<MpirunLauncher>(spec, worker);
    case LauncherKind::slurm:
      return MakeSlurmLauncher(spec, worker);
    case LauncherKind::kubernetes:
      return MakeKubernetesLauncher(spec, worker);
  }
  throw Error(ErrorCode::kInternal, "a launcher that is none of the four");
}

}  // namespace fr
