#include "bench/coordinator_process.h"

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>

#include <fcntl.h>
#include <fmt/format.h>
#include <httplib.h>
#include <netinet/in.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "bench/measure.h"
#include "common/base/error.h"
#include "common/base/file.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

// One that nobody used a moment ago.
int FreePort() {
  const FileDescriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* plain = reinterpret_cast<sockaddr*>(&address);
  if (!socket.valid() || bind(socket.get(), plain, size) != 0 ||
      getsockname(socket.get(), plain, &size) != 0) {
    throw Error(ErrorCode::kIo, "no free port on the loopback: " + ErrnoText());
  }
  return ntohs(address.sin_port);
}

}  // namespace

fs::path CoordinatorProcess::StoreDirectory(const fs::path& directory) {
  return directory / "state" / "store";
}

CoordinatorProcess::CoordinatorProcess(const fs::path& directory)
    : directory_(directory),
      rpc_address_(fmt::format("tcp://127.0.0.1:{}", FreePort())),
      http_port_(FreePort()) {
  std::ofstream(directory / "coordinator.yaml")
      << fmt::format("state_dir: state\nrpc: {}\nhttp: 127.0.0.1:{}\n", rpc_address_, http_port_)
      << "nodes: [{name: localhost, slots: 1}]\nlimits: {max_jobs: 0}\n";
}

CoordinatorProcess::~CoordinatorProcess() { Kill(); }

double CoordinatorProcess::Start() {
  const std::string program =
      (fs::read_symlink("/proc/self/exe").parent_path() / "fr-coordinator").string();
  const std::string config = (directory_ / "coordinator.yaml").string();
  const std::string log = (directory_ / "log").string();
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDERR_FILENO, log.c_str(),
                                   O_WRONLY | O_CREAT | O_APPEND, 0644);
  const char* arguments[] = {program.c_str(), "--config", config.c_str(), nullptr};
  const Clock::time_point begin = Clock::now();
  const int error = posix_spawn(&pid_, program.c_str(), &files, nullptr,
                                const_cast<char* const*>(arguments), environ);
  posix_spawn_file_actions_destroy(&files);
  if (error != 0) {
    pid_ = 0;
    throw Error(ErrorCode::kNotFound, fmt::format("{}: cannot be started: {}; build it first",
                                                  program, std::strerror(error)));
  }
  while (!IsReady()) {
    if (waitpid(pid_, nullptr, WNOHANG) == pid_) {
      pid_ = 0;
      throw Error(ErrorCode::kUnavailable, fmt::format("{} has ended; see {}", program, log));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // between two looks
  }
  return SecondsSince(begin);
}

bool CoordinatorProcess::IsReady() const {
  httplib::Client client("127.0.0.1", http_port_);
  const httplib::Result answer = client.Get("/readyz");
  return answer && answer->status == 200;
}

void CoordinatorProcess::Kill() {
  if (pid_ == 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = 0;
}

}  // namespace fr
