#pragma once
// What a job's fake workers leave behind for a test: a line for every process's start and end, and
// a proof that no two attempts ran at once.

#include <filesystem>
#include <string>

#include "common/base/file.h"

namespace fr {

// <run_dir>/fake-worker.journal: "attempt rank pid EVENT unix_ns host", EVENT one of
//   start, end  of a process; one that was killed has no end
//   overlap     on its start a process of another attempt was still alive
// The last does not rest on clocks or on processes that get to say goodbye: each process holds a
// lock on its attempt's byte of <run_dir>/fake-worker.lock for as long as it lives.
class Journal {
 public:
  // Writes "start", and "overlap" where that is so. Throws Error(kIo).
  Journal(const std::filesystem::path& run_dir, int attempt, int rank);

  // Appends one line. Throws Error(kIo).
  void Write(const std::string& event);

 private:
  int attempt_;
  int rank_;
  std::filesystem::path path_;
  FileDescriptor file_;
  FileDescriptor lock_;
};

}  // namespace fr
