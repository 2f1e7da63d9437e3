#pragma once
// A directory for what is needed while a program or a test runs.

#include <cstdlib>
#include <filesystem>
#include <string>

#include "common/base/error.h"
#include "common/base/file.h"

namespace fr {

// In the system's directory for temporary files (TMPDIR); removed with all that is in it.
class TemporaryDirectory {
 public:
  // Throws Error(kIo).
  TemporaryDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "fr-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) {
      throw Error(ErrorCode::kIo, name + ": cannot be made: " + ErrnoText());
    }
    path_ = name;
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace fr
