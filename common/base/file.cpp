#include "common/base/file.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "common/base/error.h"

namespace fr {
namespace {

[[noreturn]] void ThrowIo(const char* what, const std::filesystem::path& path) {
  const int error_number = errno;
  ErrorCode code = ErrorCode::kIo;
  if (error_number == ENOENT) code = ErrorCode::kNotFound;
  if (error_number == ENOSPC || error_number == EDQUOT || error_number == EFBIG) {
    code = ErrorCode::kResourceExhausted;
  }
  throw Error(code, fmt::format("{}: cannot {}: {}", path.string(), what, ErrnoText(error_number)));
}

void ReplaceFile(const std::filesystem::path& path, std::string_view bytes, bool sync) {
  const std::filesystem::path temporary =
      path.string() + fmt::format(".{}.tmp", static_cast<long>(getpid()));
  FileDescriptor file(open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!file.valid()) ThrowIo("create", temporary);
  WriteAll(file.get(), bytes, temporary);
  if (sync && fsync(file.get()) != 0) ThrowIo("sync", temporary);
  file.Close();
  if (rename(temporary.c_str(), path.c_str()) != 0) ThrowIo("rename", temporary);
}

}  // namespace

FileDescriptor::FileDescriptor(FileDescriptor&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)) {}

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  if (this != &other) {
    Close();
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

FileDescriptor::~FileDescriptor() { Close(); }

void FileDescriptor::Close() {
  if (fd_ >= 0) close(std::exchange(fd_, -1));
}

std::string ErrnoText() { return ErrnoText(errno); }

std::string ErrnoText(int error_number) {
  char buffer[256];
  return strerror_r(error_number, buffer, sizeof(buffer));  // GNU's, which returns the text
}

std::string ReadFile(const std::filesystem::path& path) {
  FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) ThrowIo("open", path);
  std::string bytes;
  char buffer[64 * 1024];
  while (true) {
    const ssize_t got = read(file.get(), buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) ThrowIo("read", path);
    if (got == 0) return bytes;
    bytes.append(buffer, static_cast<std::size_t>(got));
  }
}

void WriteFileAtomically(const std::filesystem::path& path, std::string_view bytes) {
  ReplaceFile(path, bytes, /*sync=*/true);
  SyncDirectory(path.has_parent_path() ? path.parent_path() : ".");
}

void WriteFileUnsynced(const std::filesystem::path& path, std::string_view bytes) {
  ReplaceFile(path, bytes, /*sync=*/false);
}

void WriteAll(int fd, std::string_view bytes, const std::filesystem::path& path) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) ThrowIo("write", path);
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
}

void MakeDirectories(const std::filesystem::path& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) {
    throw Error(ErrorCode::kIo, fmt::format("{}: {}", directory.string(), error.message()));
  }
}

std::string LowerExtension(const std::filesystem::path& path) {
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return extension;
}

void SyncDirectory(const std::filesystem::path& directory) {
  FileDescriptor handle(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!handle.valid()) ThrowIo("open", directory);
  if (fsync(handle.get()) != 0) ThrowIo("sync", directory);
}

}  // namespace fr
