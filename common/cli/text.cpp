#include "common/cli/text.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <ctime>

#include <fmt/chrono.h>
#include <fmt/format.h>

namespace fr {

std::string CountText(std::int64_t value) {
  const std::string digits = fmt::format("{}", value);
  std::string text;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    const std::size_t left = digits.size() - i;
    if (left % 3 == 0 && i > 0 && digits[i - 1] != '-') text += ',';
    text += digits[i];
  }
  return text;
}

std::string PercentText(double share) { return fmt::format("{:.2f} %", share * 100); }

std::string DecimalText(double value) { return fmt::format("{:.4g}", value); }

std::string RateText(double per_second) {
  if (!std::isfinite(per_second) || per_second < 100) return fmt::format("{:.1f}", per_second);
  return CountText(std::llround(std::min(per_second, 1e15)));
}

std::string DurationText(double seconds) {
  if (!std::isfinite(seconds)) return "?";
  struct Unit {
    const char* name;
    std::int64_t seconds;
  };
  static constexpr std::array<Unit, 4> kUnits = {
      {{"d", 86400}, {"h", 3600}, {"min", 60}, {"s", 1}}};
  std::int64_t rest = std::llround(std::clamp(seconds, 0.0, 1e12));
  for (std::size_t i = 0; i < kUnits.size(); ++i) {
    if (rest < kUnits[i].seconds) continue;
    std::string text = fmt::format("{} {}", rest / kUnits[i].seconds, kUnits[i].name);
    rest %= kUnits[i].seconds;
    if (i + 1 < kUnits.size() && rest >= kUnits[i + 1].seconds) {
      text += fmt::format(" {} {}", rest / kUnits[i + 1].seconds, kUnits[i + 1].name);
    }
    return text;
  }
  return "0 s";
}

std::string BytesText(std::int64_t bytes) {
  static constexpr std::array<const char*, 6> kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  auto scaled = static_cast<double>(bytes);
  std::size_t power = 0;
  while (scaled >= 1024 && power + 1 < kUnits.size()) {
    scaled /= 1024;
    ++power;
  }
  return fmt::format("{:.{}f} {}", scaled, power == 0 || scaled >= 100 ? 0 : 1, kUnits[power]);
}

std::string TimeText(std::int64_t unix_millis) {
  const auto seconds = static_cast<std::time_t>(unix_millis / 1000);
  std::tm local{};
  localtime_r(&seconds, &local);
  return fmt::format("{:%Y-%m-%d %H:%M:%S}", local);
}

std::string AgeText(std::int64_t unix_millis, std::int64_t now_millis) {
  return DurationText(static_cast<double>(now_millis - unix_millis) / 1000) + " ago";
}

std::string OneLine(const std::string& text) {
  std::string line = text;
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  return line;
}

}  // namespace fr
