#pragma once
// Files that are whole or not there.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace fr {

// The whole file. Throws Error(kNotFound) if it is not there, Error(kIo) for other failures.
std::string ReadFile(const std::filesystem::path& path);

// Writes `bytes` beside `path`, syncs, renames over `path` and syncs the directory: after a crash
// `path` holds the old content or the new one, never a part. Throws as WriteAll.
void WriteFileAtomically(const std::filesystem::path& path, std::string_view bytes);

// As WriteFileAtomically, but does not wait for the disk: whole or not there if this process is
// killed, perhaps cut short if the machine loses power. For many files that can be made again.
void WriteFileUnsynced(const std::filesystem::path& path, std::string_view bytes);

// Writes all of `bytes` to a descriptor; `path` is named in errors. Throws
// Error(kResourceExhausted) if the disk is full, Error(kIo).
void WriteAll(int fd, std::string_view bytes, const std::filesystem::path& path);

// ".jpg" of "a/B.JPG".
std::string LowerExtension(const std::filesystem::path& path);

// Makes `directory` and those above it, where they are not there. Throws Error(kIo).
void MakeDirectories(const std::filesystem::path& directory);

// Makes a rename or a new file in `directory` durable. Throws Error(kIo).
void SyncDirectory(const std::filesystem::path& directory);

// "No such file or directory", for the current errno or the one given.
std::string ErrnoText();
std::string ErrnoText(int error_number);

// Owns a file descriptor; closes it when it goes.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept;
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  ~FileDescriptor();
  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  void Close();

 private:
  int fd_ = -1;
};

}  // namespace fr
