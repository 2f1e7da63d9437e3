#include "common/base/quoted.h"

#include <fmt/format.h>

namespace fr {

std::string Quoted(std::string_view text) {
  constexpr std::size_t kMaxBytes = 200;
  std::string quoted = "\"";
  for (const char c : text.substr(0, kMaxBytes)) {
    if (c == '"' || c == '\\') {
      quoted += {'\\', c};
    } else if (c >= ' ' && c <= '~') {
      quoted += c;
    } else {
      quoted += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  return quoted + (text.size() > kMaxBytes ? "\"..." : "\"");
}

}  // namespace fr
