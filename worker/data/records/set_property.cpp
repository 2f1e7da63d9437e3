#include "worker/data/records/set_property.h"

#include <charconv>
#include <limits>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/trimmed.h"

namespace fr {

SetProperty ReadProperty(const std::filesystem::path& path) {
  return ParseProperty(ReadFile(path), path);
}

SetProperty ParseProperty(std::string_view text, const std::filesystem::path& path) {
  constexpr std::int64_t kMax[] = {std::numeric_limits<std::int32_t>::max(), 4096, 4096};
  std::int64_t numbers[3] = {};
  std::string_view rest = text.substr(0, text.find('\n', text.find_first_not_of(" \t\r\n")));
  for (int i = 0; i < 3; ++i) {
    const std::size_t comma = rest.find(',');
    const std::string_view field = Trimmed(rest.substr(0, comma));
    const char* const end = field.data() + field.size();
    const auto [stop, error] = std::from_chars(field.data(), end, numbers[i]);
    const bool last = comma == std::string_view::npos;
    if (error != std::errc() || stop != end || numbers[i] < 1 || numbers[i] > kMax[i] ||
        (last && i < 2)) {
      throw Error(ErrorCode::kDataLoss,
                  fmt::format("{}: 'identities,height,width' is expected, such as 85742,112,112",
                              path.string()));
    }
    rest = last ? std::string_view() : rest.substr(comma + 1);
  }
  return {numbers[0], static_cast<int>(numbers[1]), static_cast<int>(numbers[2])};
}

}  // namespace fr
