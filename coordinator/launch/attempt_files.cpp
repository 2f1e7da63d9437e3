#include "coordinator/launch/attempt_files.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <vector>

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/host_name.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

constexpr const char* kVoid = "void";

// Links `temporary` as `claim`. Over NFS the reply of a link that was made may be lost and its
// repetition fail: the number of links tells the truth.
bool MakeLink(const fs::path& temporary, const fs::path& claim) {
  if (link(temporary.c_str(), claim.c_str()) == 0) return true;
  const int error_number = errno;
  struct stat status = {};
  if (stat(temporary.c_str(), &status) == 0 && status.st_nlink == 2) return true;
  if (error_number == EEXIST) return false;
  throw Error(ErrorCode::kIo,
              fmt::format("{}: cannot be made: {}", claim.string(), ErrnoText(error_number)));
}

// mpirun's messages stand between two such lines.
bool IsFrame(const std::string& line) {
  return line.size() >= 70 && line.find_first_not_of('-') == std::string::npos;
}

// What mpirun says when all is well.
bool IsNoise(const std::string& line) {
  return line.find("plm:rsh: Warning: setpgid(") != std::string::npos;
}

// "who\n" as "who".
std::string FirstLine(const std::string& text) { return text.substr(0, text.find('\n')); }

}  // namespace

std::optional<int> ExitStatus(const fs::path& directory) {
  std::ifstream file(directory / kExitStatusFile);
  int status = 0;
  if (!(file >> status)) return std::nullopt;
  return status;
}

std::string LogEnd(const fs::path& directory) {
  std::ifstream file(directory / kLogFile, std::ios::binary | std::ios::ate);
  if (!file) return "";
  constexpr std::int64_t kBytes = 64 << 10;
  file.seekg(std::max<std::int64_t>(0, static_cast<std::int64_t>(file.tellg()) - kBytes));
  std::string text(kBytes, '\0');
  file.read(text.data(), kBytes);
  text.resize(static_cast<std::size_t>(std::max<std::streamsize>(0, file.gcount())));
  return text;
}

std::string LogTail(const fs::path& directory, int max_lines) {
  std::vector<std::string> own, all;
  bool in_frame = false;
  std::istringstream log(LogEnd(directory));
  for (std::string line; std::getline(log, line);) {
    if (IsFrame(line)) in_frame = !in_frame;
    if (line.find_first_not_of("- \t\r*") == std::string::npos || IsNoise(line)) continue;
    all.push_back(line);
    if (!in_frame) own.push_back(line);
  }
  // What workers said is worth more than what mpirun says about them.
  const std::vector<std::string>& lines = own.empty() ? all : own;
  const auto first = std::max<std::ptrdiff_t>(0, std::ssize(lines) - max_lines);
  return fmt::format("{}", fmt::join(lines.begin() + first, lines.end(), "\n"));
}

std::string ClaimScript() {
  // The temporary file's name is unique on all nodes that see the directory.
  return R"(fr_claim() {
  fr_claim_file="$1/claim.$(uname -n).$$"
  printf '%s\n' "$2" >"$fr_claim_file" || return 1
  ln "$fr_claim_file" "$1/claim" 2>/dev/null
  [ "$1/claim" -ef "$fr_claim_file" ]; fr_claim_status=$?
  rm -f "$fr_claim_file"
  return $fr_claim_status
}
)";
}

std::optional<std::string> ClaimVoid(const fs::path& directory) {
  try {
    MakeDirectories(directory);
    const fs::path temporary = directory / fmt::format("claim.{}.{}.void", HostName(), getpid());
    const fs::path claim = directory / kClaimFile;
    WriteFileAtomically(temporary, std::string(kVoid) + "\n");
    const bool made = MakeLink(temporary, claim);
    std::error_code ignored;
    fs::remove(temporary, ignored);
    if (made) {
      SyncDirectory(directory);
      return std::nullopt;
    }
    const std::string owner = FirstLine(ReadFile(claim));
    if (owner == kVoid) return std::nullopt;
    return owner;
  } catch (const Error& error) {
    throw Error(ErrorCode::kUnavailable,
                fmt::format("whether the attempt has started cannot be told: {}", error.what()));
  }
}

}  // namespace fr
