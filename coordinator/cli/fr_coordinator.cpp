// fr-coordinator: the daemon. Workers that it started outlive it; a new one finds them again.

#include <csignal>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <CLI/CLI.hpp>

#include "common/base/error.h"
#include "common/base/host_name.h"
#include "common/base/logging.h"
#include "common/base/version.h"
#include "common/cli/run_command.h"
#include "common/config/coordinator_config.h"
#include "common/config/job_config.h"
#include "common/rpc/server.h"
#include "coordinator/api/http_server.h"
#include "coordinator/api/request_counts.h"
#include "coordinator/api/rpc_service.h"
#include "coordinator/coordinator.h"
#include "coordinator/launch/launcher.h"

namespace {

constexpr int kTickMs = 200;

volatile std::sig_atomic_t stop_requested = 0;

void CatchSignals() {
  struct sigaction action = {};
  action.sa_handler = [](int) { stop_requested = 1; };
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  signal(SIGPIPE, SIG_IGN);
}

// fr-worker beside this program, unless the configuration names another.
std::string WorkerPath(const fr::CoordinatorSpec& spec) {
  const std::filesystem::path path =
      spec.has_worker()
          ? std::filesystem::path(spec.worker())
          : std::filesystem::read_symlink("/proc/self/exe").parent_path() / "fr-worker";
  if (access(path.c_str(), X_OK) != 0) {
    spdlog::warn("{}: cannot be executed here; jobs will fail unless it is on the nodes",
                 path.string());
  }
  return path.string();
}

// The address at which workers find a socket that is bound to `bound`: a wildcard is no address.
std::string WorkerAddress(const std::string& bound, const fr::CoordinatorSpec& spec) {
  if (spec.has_advertise()) return spec.advertise();
  const std::size_t port = bound.rfind(':');
  const std::string host = bound.substr(6, port - 6);  // behind tcp://
  if (host != "0.0.0.0" && host != "*" && host != "[::]") return bound;
  const bool only_here = spec.launcher() == fr::LauncherKind::local;
  return fmt::format("tcp://{}{}", only_here ? "127.0.0.1" : fr::HostName(), bound.substr(port));
}

int Run(const std::string& config_file, const std::vector<std::string>& overrides) {
  const fr::CoordinatorConfig config = fr::LoadCoordinatorConfig(config_file, overrides);
  if (!config.diagnostics.empty()) {
    fmt::print(stderr, "{}", fr::FormatDiagnostics(config.diagnostics));
    return fr::kExitInvalid;
  }
  const fr::CoordinatorSpec& spec = config.spec;
  CatchSignals();
  fr::Coordinator coordinator(spec, fr::MakeLauncher(spec, WorkerPath(spec)));
  fr::RequestCounts rpc_requests;
  fr::RpcServer rpc(spec.rpc(), [&](const fr::Request& request) {
    return fr::Answer(coordinator, request, &rpc_requests);
  });
  const fr::HttpServer http(coordinator, spec.http(), rpc_requests);
  coordinator.SetAddresses(WorkerAddress(rpc.address(), spec), http.address());
  spdlog::info("version {}, jobs in {}", fr::kVersion, spec.state_dir());
  spdlog::info("commands and workers: {}; dashboard: http://{}/", rpc.address(), http.address());

  rpc.Start();
  while (stop_requested == 0) {
    try {
      coordinator.Tick();
    } catch (const std::exception& error) {
      // A full disk, say: what was not committed did not happen, and is tried again.
      spdlog::error("{}", error.what());
    }
    // A signal ends the wait.
    poll(nullptr, 0, kTickMs);
  }
  rpc.Stop();
  spdlog::info("ended by a signal; running jobs go on and are found again at the next start");
  return fr::kExitDone;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Queues, starts and keeps training jobs.", "fr-coordinator");
  std::string config_file;
  std::vector<std::string> overrides;
  app.add_option("--config", config_file, "coordinator.yaml; configs/coordinator.yaml explains it")
      ->required();
  app.add_option("--set", overrides, "Override a key of it, e.g. --set http=127.0.0.1:8080")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  fr::InitLogging("coordinator");
  return fr::RunCommand(app, argc, argv, [&] { return Run(config_file, overrides); });
}
