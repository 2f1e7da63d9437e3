#include "worker/data/shards/tar_reader.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include <fmt/format.h>

#include "common/base/error.h"
#include "worker/data/shards/tar_format.h"

namespace fr {

using namespace tar_format;

namespace {

// Headers that belong to the next member are small; a damaged one may say otherwise.
constexpr std::uint64_t kMaxExtensionBytes = 1 << 20;

// Up to the first zero.
std::string_view Text(std::string_view field) { return field.substr(0, field.find('\0')); }

// Octal digits between blanks and zeros; or, of numbers that are too large, base 256 with the
// highest bit set.
std::optional<std::uint64_t> ParseNumber(std::string_view field) {
  std::uint64_t number = 0;
  if (static_cast<unsigned char>(field[0]) == 0x80) {
    for (const char byte : field.substr(1)) {
      if (number >> 55 != 0) return std::nullopt;
      number = number << 8 | static_cast<unsigned char>(byte);
    }
    return number;
  }
  const std::size_t begin = std::min(field.find_first_not_of(' '), field.size());
  const std::string_view digits =
      field.substr(begin, field.find_first_of(std::string_view(" \0", 2), begin) - begin);
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), number, 8);
  if (digits.empty()) return 0;
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return number;
}

std::string NameOf(std::string_view header) {
  const std::string_view name = Text(kName.Of(header));
  const std::string_view prefix = Text(kPrefix.Of(header));
  if (!kMagic.Of(header).starts_with(kPosixMagic) || prefix.empty()) return std::string(name);
  return fmt::format("{}/{}", prefix, name);
}

bool IsZero(std::string_view block) { return block.find_first_not_of('\0') == block.npos; }

// Folders, links and devices have no content, whatever their size says (as in Python's tarfile).
bool HasContent(char kind) { return kind < '1' || kind > '6'; }

}  // namespace

struct TarReader::Header {
  char kind = 0;  // 0 at the end of the archive
  std::string name;
  std::uint64_t offset = 0;  // of the content
  std::uint64_t size = 0;
};

void TarReader::Fail(std::uint64_t at, const std::string& what) const {
  throw Error(ErrorCode::kDataLoss,
              fmt::format("{}: byte {} of the tar archive: {}: the file is truncated or damaged; "
                          "copy it again",
                          file_, at, what));
}

TarReader::Header TarReader::ReadHeader() {
  if (at_ == archive_.size()) return {};
  if (archive_.size() - at_ < kBlockBytes) Fail(at_, "a header is cut off");
  const std::string_view block = archive_.substr(at_, kBlockBytes);
  if (IsZero(block)) return {};
  if (ParseNumber(kChecksum.Of(block)) != ChecksumOfHeader(block)) {
    Fail(at_, "a header with a wrong checksum");
  }
  const std::optional<std::uint64_t> size = ParseNumber(kSize.Of(block));
  if (!size) Fail(at_, "a size that is no number");
  at_ += kBlockBytes;
  return {block[kKindAt] == '\0' ? '0' : block[kKindAt], NameOf(block), at_, *size};
}

// "27 path=a/very/long/name.jpg\n", one after the other; the length counts the whole line.
void TarReader::ReadPaxRecords(std::string_view records, std::uint64_t at, Header* header) const {
  while (!records.empty()) {
    std::size_t length = 0;
    const auto [blank, error] =
        std::from_chars(records.data(), records.data() + records.size(), length);
    const auto digits = static_cast<std::size_t>(blank - records.data());
    if (error != std::errc() || length <= digits + 1 || length > records.size() ||
        records[digits] != ' ' || records[length - 1] != '\n') {
      Fail(at, "an extended header that is none");
    }
    const std::string_view record = records.substr(digits + 1, length - digits - 2);
    const std::size_t equals = record.find('=');
    if (equals == std::string_view::npos) Fail(at, "an extended header that is none");
    const std::string_view key = record.substr(0, equals);
    const std::string_view value = record.substr(equals + 1);
    if (key == "path") header->name = value;
    if (key == "size") {
      const auto [end, wrong] =
          std::from_chars(value.data(), value.data() + value.size(), header->size);
      if (wrong != std::errc() || end != value.data() + value.size()) {
        Fail(at, "a size that is no number");
      }
    }
    if (key.starts_with("GNU.sparse.")) Fail(at, "a sparse file, which is not read here");
    records.remove_prefix(length);
  }
}

bool TarReader::Next(TarMember* member) {
  std::string long_name;
  std::string_view pax;
  std::uint64_t pax_at = 0;
  while (true) {
    const std::uint64_t header_at = at_;
    Header header = ReadHeader();
    if (header.kind == 0) return false;
    if (header.kind == 'S') Fail(header_at, "a sparse file, which is not read here");
    const bool extension =
        header.kind == 'x' || header.kind == 'g' || header.kind == 'L' || header.kind == 'K';
    if (!extension) {
      if (!long_name.empty()) header.name = long_name;
      ReadPaxRecords(pax, pax_at, &header);
      if (!HasContent(header.kind)) header.size = 0;
    } else if (header.size > kMaxExtensionBytes) {
      Fail(header_at, "an extended header that is too long");
    }
    if (header.size > archive_.size() - at_) Fail(header_at, "the content is cut off");
    const std::string_view content = archive_.substr(at_, header.size);
    at_ += std::min<std::uint64_t>(Padded(header.size), archive_.size() - at_);
    if (header.kind == 'L') long_name = Text(content);
    if (header.kind == 'x') {
      pax = content;
      pax_at = header_at;
    }
    if (extension) continue;
    *member = {std::move(header.name), header.kind == '0' || header.kind == '7', header.offset,
               content};
    return true;
  }
}

}  // namespace fr
