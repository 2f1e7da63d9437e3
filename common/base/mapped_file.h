#pragma once
// A file as memory, read-only.

#include <cstddef>
#include <filesystem>
#include <string_view>

namespace fr {

// Its bytes are valid as long as it lives; moving it does not move them.
class MappedFile {
 public:
  MappedFile() = default;
  // Throws Error(kNotFound) if it is not there, Error(kIo) for other failures. The system's
  // read-ahead is left on only if `sequential`.
  MappedFile(const std::filesystem::path& path, bool sequential);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  // Asks the system to read [begin, end) into memory, and returns at once. Only a hint: what lies
  // beyond the end does not matter.
  void Prefetch(std::size_t begin, std::size_t end) const;

  std::string_view bytes() const { return {data_, size_}; }

 private:
  const char* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace fr
