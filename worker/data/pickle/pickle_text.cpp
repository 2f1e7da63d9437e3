#include "worker/data/pickle/pickle_text.h"

#include <algorithm>
#include <charconv>
#include <cstdint>

namespace fr {
namespace {

// The first `count` characters of `text` as a number in `base`.
std::optional<std::uint32_t> ParseDigits(std::string_view text, std::size_t count, int base) {
  if (text.size() < count) return std::nullopt;
  std::uint32_t number = 0;
  const char* const end = text.data() + count;
  const auto [stop, error] = std::from_chars(text.data(), end, number, base);
  if (error != std::errc() || stop != end) return std::nullopt;
  return number;
}

// Surrogates, which Python lets through, become three bytes, too.
bool AppendUtf8(std::string* out, std::uint32_t code) {
  if (code > 0x10ffff) return false;
  const auto append = [out](std::uint32_t byte) { out->push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    append(code);
    return true;
  }
  const int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  static constexpr std::uint32_t kFirstByte[] = {0, 0xc0, 0xe0, 0xf0};
  append(kFirstByte[more] | code >> (6 * more));
  for (int i = more - 1; i >= 0; --i) append(0x80 | (code >> (6 * i) & 0x3f));
  return true;
}

// What \n and the like stand for; 0 for other letters.
char SimpleEscape(char letter) {
  constexpr std::string_view kLetters = "\\'\"abfnrtv";
  constexpr std::string_view kMeanings = "\\'\"\a\b\f\n\r\t\v";
  const std::size_t found = kLetters.find(letter);
  return found == std::string_view::npos ? '\0' : kMeanings[found];
}

bool IsOctal(char letter) { return letter >= '0' && letter <= '7'; }

// The escape that begins `rest`, without its backslash: appends what it stands for and returns how
// many characters it has; 0 if it is broken.
std::size_t AppendEscaped(std::string_view rest, std::string* out) {
  if (rest.empty()) return 0;
  if (const char simple = SimpleEscape(rest[0])) {
    out->push_back(simple);
    return 1;
  }
  if (rest[0] == 'x') {
    const auto byte = ParseDigits(rest.substr(1), 2, 16);
    if (!byte) return 0;
    out->push_back(static_cast<char>(*byte));
    return 3;
  }
  if (IsOctal(rest[0])) {
    std::size_t count = 1;
    while (count < 3 && count < rest.size() && IsOctal(rest[count])) ++count;
    out->push_back(static_cast<char>(*ParseDigits(rest, count, 8)));
    return count;
  }
  // Python leaves others as they stand.
  out->push_back('\\');
  out->push_back(rest[0]);
  return 1;
}

}  // namespace

std::optional<std::string> UnescapeString(std::string_view quoted) {
  if (quoted.size() < 2 || quoted.front() != quoted.back() ||
      (quoted.front() != '\'' && quoted.front() != '"')) {
    return std::nullopt;
  }
  const std::string_view text = quoted.substr(1, quoted.size() - 2);
  std::string bytes;
  bytes.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      bytes.push_back(text[i]);
      continue;
    }
    const std::size_t length = AppendEscaped(text.substr(i + 1), &bytes);
    if (length == 0) return std::nullopt;
    i += length;
  }
  return bytes;
}

std::optional<std::string> DecodeRawUnicodeEscape(std::string_view text) {
  std::string utf8;
  utf8.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    std::uint32_t code = static_cast<unsigned char>(text[i]);
    const char next = code == '\\' && i + 1 < text.size() ? text[i + 1] : '\0';
    if (next == 'u' || next == 'U') {
      const std::size_t digits = next == 'u' ? 4 : 8;
      const auto parsed = ParseDigits(text.substr(i + 2), digits, 16);
      if (!parsed) return std::nullopt;
      code = *parsed;
      i += 1 + digits;
    } else if (next != '\0') {
      // A backslash that escapes nothing takes the next character with it.
      utf8.push_back('\\');
      code = static_cast<unsigned char>(text[++i]);
    }
    if (!AppendUtf8(&utf8, code)) return std::nullopt;
  }
  return utf8;
}

std::optional<std::string> EncodeLatin1(std::string_view utf8) {
  std::string bytes;
  bytes.reserve(utf8.size());
  for (std::size_t i = 0; i < utf8.size(); ++i) {
    const auto byte = static_cast<unsigned char>(utf8[i]);
    if (byte < 0x80) {
      bytes.push_back(utf8[i]);
      continue;
    }
    // U+0080 to U+00FF have two bytes, the first of which is C2 or C3.
    if ((byte != 0xc2 && byte != 0xc3) || i + 1 == utf8.size()) return std::nullopt;
    const auto second = static_cast<unsigned char>(utf8[++i]);
    if (second >> 6 != 2) return std::nullopt;
    bytes.push_back(static_cast<char>((byte & 3) << 6 | (second & 0x3f)));
  }
  return bytes;
}

}  // namespace fr
