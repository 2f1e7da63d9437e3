#include "tests/fake_worker/journal.h"

#include <chrono>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "common/base/error.h"
#include "common/base/host_name.h"

namespace fr {
namespace {

// Locks of an open file description: those of one process do not vanish with another descriptor.
struct flock Bytes(short type, off_t begin, off_t size) {
  struct flock bytes = {};
  bytes.l_type = type;
  bytes.l_whence = SEEK_SET;
  bytes.l_start = begin;
  bytes.l_len = size;  // 0: all that follow
  return bytes;
}

// Whether another process holds a lock there. Asking takes none: two that ask do not see each
// other.
bool IsHeld(int fd, off_t begin, off_t size) {
  struct flock bytes = Bytes(F_WRLCK, begin, size);
  if (fcntl(fd, F_OFD_GETLK, &bytes) != 0) {
    throw Error(ErrorCode::kIo, "the fake worker's lock cannot be read: " + ErrnoText());
  }
  return bytes.l_type != F_UNLCK;
}

FileDescriptor Open(const std::filesystem::path& path, int flags) {
  FileDescriptor file(open(path.c_str(), flags | O_CREAT | O_CLOEXEC, 0644));
  if (!file.valid()) {
    throw Error(ErrorCode::kIo,
                fmt::format("{}: cannot be opened: {}", path.string(), ErrnoText()));
  }
  return file;
}

}  // namespace

Journal::Journal(const std::filesystem::path& run_dir, int attempt, int rank)
    : attempt_(attempt), rank_(rank), path_(run_dir / "fake-worker.journal") {
  file_ = Open(path_, O_WRONLY | O_APPEND);
  lock_ = Open(run_dir / "fake-worker.lock", O_RDWR);
  // First the lock, then the question: of two attempts one sees the other.
  struct flock mine = Bytes(F_RDLCK, attempt, 1);
  if (fcntl(lock_.get(), F_OFD_SETLKW, &mine) != 0) {
    throw Error(ErrorCode::kIo, "the fake worker's lock cannot be taken: " + ErrnoText());
  }
  Write("start");
  if (IsHeld(lock_.get(), 0, attempt) || IsHeld(lock_.get(), attempt + 1, 0)) Write("overlap");
}

void Journal::Write(const std::string& event) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  WriteAll(
      file_.get(),
      fmt::format("{} {} {} {} {} {}\n", attempt_, rank_, getpid(), event,
                  std::chrono::duration_cast<std::chrono::nanoseconds>(now).count(), HostName()),
      path_);
}

}  // namespace fr
