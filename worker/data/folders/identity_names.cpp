#include "worker/data/folders/identity_names.h"

#include <charconv>

#include <fmt/format.h>

#include "common/base/checksum.h"
#include "common/base/error.h"
#include "common/base/file.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

// Most file systems take 255 bytes.
constexpr std::size_t kMaxNameBytes = 200;

bool IsControl(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

[[noreturn]] void ThrowLine(const fs::path& path, std::size_t line, const std::string& what) {
  throw Error(ErrorCode::kDataLoss,
              fmt::format("{}:{}: {}; 'label<TAB>name' is expected, one line a label, from 0",
                          path.string(), line, what));
}

}  // namespace

std::string IdentityNameLine(std::int64_t label, std::string_view name) {
  std::string line = fmt::format("{}\t{}", label, name);
  for (std::size_t i = line.find('\t') + 1; i < line.size(); ++i) {
    if (IsControl(line[i])) line[i] = ' ';
  }
  return line + '\n';
}

std::vector<std::string> ReadIdentityNames(const fs::path& directory, std::int64_t num_identities) {
  const fs::path path = directory / kIdentityNamesFile;
  if (!fs::exists(path)) return {};
  const std::string text = ReadFile(path);
  std::vector<std::string> names;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    std::int64_t label = -1;
    const auto [rest, error] = std::from_chars(text.data() + begin, text.data() + end, label);
    if (error != std::errc() || rest == text.data() + end || *rest != '\t' ||
        label != std::ssize(names)) {
      ThrowLine(path, names.size() + 1, fmt::format("is not about label {}", names.size()));
    }
    std::string_view name(rest + 1, static_cast<std::size_t>(text.data() + end - rest - 1));
    if (name.ends_with('\r')) name.remove_suffix(1);
    names.emplace_back(name);
    begin = end + 1;
  }
  if (std::ssize(names) != num_identities) {
    ThrowLine(path, names.size(),
              fmt::format("ends, but the set has {} identities", num_identities));
  }
  return names;
}

std::string SafeFileName(std::string_view name) {
  static constexpr std::string_view kUnsafe = "/\\:*?\"<>|%";
  std::string safe;
  for (std::size_t i = 0; i < name.size(); ++i) {
    const bool leading_dot = i == 0 && name[i] == '.';
    // Windows drops dots and blanks at the end.
    const bool trailing = i + 1 == name.size() && (name[i] == '.' || name[i] == ' ');
    if (leading_dot || trailing || IsControl(name[i]) ||
        kUnsafe.find(name[i]) != std::string_view::npos) {
      safe += fmt::format("%{:02X}", static_cast<unsigned char>(name[i]));
    } else {
      safe += name[i];
    }
  }
  if (safe.size() <= kMaxNameBytes) return safe.empty() ? "%" : safe;
  // A letter of several bytes may be cut: the name stays one that the system takes.
  return fmt::format("{}%{:016X}", safe.substr(0, kMaxNameBytes), ChecksumOf(name));
}

}  // namespace fr
