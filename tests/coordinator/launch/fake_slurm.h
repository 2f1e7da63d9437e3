#pragma once
// Slurm's commands as scripts: each notes how it was called, and says what the test has laid down.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "common/base/file.h"
#include "common/base/temporary_directory.h"

namespace fr {

class FakeSlurm {
 public:
  FakeSlurm() {
    std::filesystem::create_directory(bin_dir());
    for (const char* name : {"sbatch", "squeue", "scancel", "sinfo", "srun"}) {
      // What it does besides comes from NAME.hook.
      std::ofstream(bin_dir() / name)
          << "#!/bin/sh\nhere=" << path().string() << "\necho \"" << name << " $*\" >>$here/calls\n"
          << "if [ -e $here/" << name << ".hook ]; then . $here/" << name << ".hook; fi\n"
          << "cat $here/" << name << ".out 2>/dev/null\ncat $here/" << name
          << ".err >&2 2>/dev/null\nexit $(cat $here/" << name
          << ".status 2>/dev/null || echo 0)\n";
      std::filesystem::permissions(bin_dir() / name, std::filesystem::perms::owner_all);
    }
  }

  const std::filesystem::path& path() const { return directory_.path(); }
  std::filesystem::path bin_dir() const { return path() / "bin"; }

  // From now on `program` prints `output` (| stands for the separator of fields) and succeeds.
  void Prints(const std::string& program, std::string output) const {
    std::replace(output.begin(), output.end(), '|', '\x1f');
    Write(program + ".out", output);
    Write(program + ".err", "");
    Write(program + ".status", "0");
  }
  // From now on it fails with these words.
  void Fails(const std::string& program, const std::string& words) const {
    Write(program + ".out", "");
    Write(program + ".err", words + "\n");
    Write(program + ".status", "1");
  }
  // From now on it runs `script` first.
  void Runs(const std::string& program, const std::string& script) const {
    Write(program + ".hook", script + "\n");
  }

  // How `program` has been called so far.
  std::vector<std::string> Calls(const std::string& program) const {
    std::vector<std::string> calls;
    std::ifstream file(path() / "calls");
    for (std::string line; std::getline(file, line);) {
      if (line.starts_with(program + " ")) calls.push_back(line.substr(program.size() + 1));
    }
    return calls;
  }

 private:
  void Write(const std::string& name, const std::string& text) const {
    WriteFileUnsynced(path() / name, text);
  }

  TemporaryDirectory directory_;
};

}  // namespace fr
