#pragma once
// What the fuzzers share. Each of them hands arbitrary bytes to one reader: it may throw Error, and
// nothing else.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/error.h"

namespace fr {

// libFuzzer's entry point calls this with what it made up.
template <typename Read>
int Fuzz(const std::uint8_t* data, std::size_t size, const Read& read) {
  try {
    read(std::string_view(reinterpret_cast<const char*>(data), size));
  } catch (const Error&) {
  }
  return 0;
}

// A file that lies in memory only, for readers that take a path.
class MemoryFile {
 public:
  explicit MemoryFile(std::string_view bytes) : fd_(memfd_create("fuzz", MFD_CLOEXEC)) {
    while (!bytes.empty()) {
      const ssize_t written = write(fd_, bytes.data(), bytes.size());
      if (written <= 0) break;
      bytes.remove_prefix(static_cast<std::size_t>(written));
    }
  }
  ~MemoryFile() { close(fd_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::filesystem::path path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  int fd_;
};

}  // namespace fr

// The one function that a fuzzer defines: what is done with `bytes`.
#define FR_FUZZ_TARGET(bytes)                                                         \
  static void FuzzOne(std::string_view bytes);                                        \
  extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) { \
    return fr::Fuzz(data, size, FuzzOne);                                             \
  }                                                                                   \
  static void FuzzOne(std::string_view bytes)
