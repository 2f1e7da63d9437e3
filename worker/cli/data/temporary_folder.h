#pragma once
// A folder for what a command needs while it runs.

#include <cstdlib>
#include <filesystem>
#include <string>

#include "common/base/error.h"
#include "common/base/file.h"

namespace fr {

// In the system's folder for temporary files (TMPDIR); removed with all that is in it.
class TemporaryFolder {
 public:
  // Throws Error(kIo).
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "fr-data-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) {
      throw Error(ErrorCode::kIo, name + ": cannot be made: " + ErrnoText());
    }
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace fr
