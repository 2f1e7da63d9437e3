#include "common/base/mapped_file.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/error.h"
#include "common/base/file.h"

namespace fr {
namespace {

[[noreturn]] void ThrowErrno(const std::filesystem::path& path) {
  throw Error(errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo,
              fmt::format("{}: {}", path.string(), ErrnoText()));
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path, bool sequential) {
  const FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) ThrowErrno(path);
  struct stat status = {};
  if (fstat(file.get(), &status) != 0) ThrowErrno(path);
  if (!S_ISREG(status.st_mode)) {
    throw Error(ErrorCode::kIo, fmt::format("{}: is no regular file", path.string()));
  }
  size_ = static_cast<std::size_t>(status.st_size);
  if (size_ == 0) return;  // an empty mapping does not exist
  void* memory = mmap(nullptr, size_, PROT_READ, MAP_SHARED, file.get(), 0);
  if (memory == MAP_FAILED) ThrowErrno(path);
  data_ = static_cast<const char*>(memory);
  madvise(memory, size_, sequential ? MADV_SEQUENTIAL : MADV_RANDOM);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void MappedFile::Prefetch(std::size_t begin, std::size_t end) const {
  end = std::min(end, size_);
  if (begin >= end) return;
  static const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  begin -= begin % page;
  madvise(const_cast<char*>(data_) + begin, end - begin, MADV_WILLNEED);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<char*>(data_), size_);
}

}  // namespace fr
