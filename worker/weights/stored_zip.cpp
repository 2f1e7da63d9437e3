#include "worker/weights/stored_zip.h"

#include <algorithm>

#include <fmt/format.h>
#include <zlib.h>

#include "common/base/byte_cursor.h"
#include "common/base/error.h"
#include "common/base/quoted.h"

namespace fr {
namespace {

constexpr std::uint32_t kLocalHeader = 0x04034b50;
constexpr std::uint32_t kDirectoryEntry = 0x02014b50;
constexpr std::uint32_t kEndRecord = 0x06054b50;
constexpr std::uint32_t kZip64Record = 0x06064b50;
constexpr std::uint32_t kZip64Locator = 0x07064b50;
constexpr std::size_t kEndRecordBytes = 22;
constexpr std::size_t kZip64LocatorBytes = 20;
constexpr std::size_t kMaxCommentBytes = 0xffff;
// In these fields the value stands in a zip64 record instead.
constexpr std::uint32_t kSee64 = 0xffffffff;
constexpr std::uint16_t kSee64Short = 0xffff;

// What a directory entry says.
struct Listed {
  std::uint16_t flags = 0;
  std::uint16_t method = 0;
  std::uint32_t crc32 = 0;
  std::uint64_t stored_bytes = 0;
  std::uint64_t bytes = 0;
  std::uint64_t header = 0;
  std::string_view name;
};

// The zip64 field holds, in this order, the values that did not fit.
void TakeZip64Sizes(std::string_view extra, const ByteCursor& at, Listed* listed) {
  ByteCursor cursor(extra, "extra field");
  while (cursor.left() >= 4) {
    const auto tag = cursor.Take<std::uint16_t>("tag");
    const auto size = cursor.Take<std::uint16_t>("size");
    if (size > cursor.left()) break;
    ByteCursor field(cursor.Take(size, "field"), "extra field");
    if (tag != 1) continue;
    for (std::uint64_t* value : {&listed->bytes, &listed->stored_bytes, &listed->header}) {
      if (*value == kSee64 && field.left() >= 8) *value = field.Take<std::uint64_t>("size");
    }
    return;
  }
  if (listed->bytes == kSee64 || listed->header == kSee64) {
    at.Fail("a zip entry's 64-bit sizes are missing");
  }
}

Listed TakeListed(ByteCursor* cursor) {
  if (cursor->Take<std::uint32_t>("a zip directory entry") != kDirectoryEntry) {
    cursor->Fail("is no zip directory entry");
  }
  Listed listed;
  cursor->Take(4, "versions");
  listed.flags = cursor->Take<std::uint16_t>("flags");
  listed.method = cursor->Take<std::uint16_t>("method");
  cursor->Take(4, "time");
  listed.crc32 = cursor->Take<std::uint32_t>("checksum");
  listed.stored_bytes = cursor->Take<std::uint32_t>("size");
  listed.bytes = cursor->Take<std::uint32_t>("size");
  const auto name_bytes = cursor->Take<std::uint16_t>("length of the name");
  const auto extra_bytes = cursor->Take<std::uint16_t>("length of the extra field");
  const auto comment_bytes = cursor->Take<std::uint16_t>("length of the comment");
  cursor->Take(8, "attributes");
  listed.header = cursor->Take<std::uint32_t>("offset");
  listed.name = cursor->Take(name_bytes, "name");
  TakeZip64Sizes(cursor->Take(extra_bytes, "extra field"), *cursor, &listed);
  cursor->Take(comment_bytes, "comment");
  return listed;
}

std::uint32_t Crc32(std::string_view bytes) {
  return static_cast<std::uint32_t>(
      crc32_z(0, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size()));
}

}  // namespace

struct StoredZip::Directory {
  std::uint64_t entries = 0;
  std::uint64_t bytes = 0;
  std::uint64_t offset = 0;
};

StoredZip::StoredZip(std::string_view bytes, std::string file)
    : bytes_(bytes), file_(std::move(file)) {
  ReadEntries(FindDirectory());
}

// The end record is the last thing in the file, behind it only its own comment.
StoredZip::Directory StoredZip::FindDirectory() const {
  const std::size_t farthest = std::min(bytes_.size(), kEndRecordBytes + kMaxCommentBytes);
  for (std::size_t back = kEndRecordBytes; back <= farthest; ++back) {
    const std::size_t at = bytes_.size() - back;
    ByteCursor cursor(bytes_, file_, at);
    if (cursor.Take<std::uint32_t>("signature") != kEndRecord) continue;
    cursor.Take(4, "disk numbers");
    Directory directory;
    cursor.Take(2, "entries of this disk");
    directory.entries = cursor.Take<std::uint16_t>("entries");
    directory.bytes = cursor.Take<std::uint32_t>("directory size");
    directory.offset = cursor.Take<std::uint32_t>("directory offset");
    if (cursor.Take<std::uint16_t>("comment length") != back - kEndRecordBytes) continue;
    if (directory.entries == kSee64Short || directory.bytes == kSee64 ||
        directory.offset == kSee64) {
      ReadZip64(at, &directory);
    }
    return directory;
  }
  throw Error(ErrorCode::kDataLoss,
              fmt::format("{}: has no zip directory at its end: the file is truncated", file_));
}

void StoredZip::ReadZip64(std::size_t end_record, Directory* directory) const {
  ByteCursor locator(bytes_, file_, end_record - std::min(end_record, kZip64LocatorBytes));
  if (locator.Take<std::uint32_t>("zip64 locator") != kZip64Locator) {
    locator.Fail("a zip64 locator is expected here");
  }
  locator.Take(4, "disk number");
  const auto offset = locator.Take<std::uint64_t>("offset of the zip64 record");
  if (offset > bytes_.size()) locator.Fail("the zip64 record lies outside the file");
  ByteCursor record(bytes_, file_, offset);
  if (record.Take<std::uint32_t>("zip64 record") != kZip64Record) {
    record.Fail("a zip64 record is expected here");
  }
  record.Take(20, "versions and disk numbers");
  record.Take(8, "entries of this disk");
  directory->entries = record.Take<std::uint64_t>("entries");
  directory->bytes = record.Take<std::uint64_t>("directory size");
  directory->offset = record.Take<std::uint64_t>("directory offset");
}

void StoredZip::ReadEntries(const Directory& directory) {
  if (directory.offset > bytes_.size() || directory.bytes > bytes_.size() - directory.offset) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: the zip directory's {} bytes at {} leave the file's {}", file_,
                            directory.bytes, directory.offset, bytes_.size()));
  }
  ByteCursor cursor(bytes_.substr(0, directory.offset + directory.bytes), file_, directory.offset);
  std::uint64_t total_bytes = 0;
  for (std::uint64_t i = 0; i < directory.entries; ++i) {
    const Listed listed = TakeListed(&cursor);
    // Each is read once: the work is bounded by the size of the file.
    const std::uint64_t size = listed.stored_bytes;
    if (size > bytes_.size() || (total_bytes += size) > bytes_.size()) {
      cursor.Fail("the zip's entries are larger than the file: they overlap");
    }
    const bool plain = (listed.flags & 1U) == 0 && listed.method == 0 && listed.bytes == size;
    const Entry entry = {DataOf(listed.header, size, listed.name), listed.crc32, plain};
    if (!entries_.emplace(std::string(listed.name), entry).second) {
      cursor.Fail(fmt::format("zip entry {} is there twice", Quoted(listed.name)));
    }
  }
}

std::string_view StoredZip::DataOf(std::uint64_t header, std::uint64_t size,
                                   std::string_view name) const {
  ByteCursor cursor(bytes_, file_, std::min<std::uint64_t>(header, bytes_.size()));
  if (cursor.Take<std::uint32_t>(fmt::format("zip entry {}", Quoted(name))) != kLocalHeader) {
    cursor.Fail(fmt::format("zip entry {} is expected here", Quoted(name)));
  }
  cursor.Take(22, "versions, time and sizes");
  const auto name_bytes = cursor.Take<std::uint16_t>("length of the name");
  const auto extra_bytes = cursor.Take<std::uint16_t>("length of the extra field");
  if (cursor.Take(name_bytes, "name") != name) {
    cursor.Fail(fmt::format("zip entry {} has another name in the directory", Quoted(name)));
  }
  cursor.Take(extra_bytes, "extra field");
  return cursor.Take(size, fmt::format("zip entry {}", Quoted(name)));
}

std::string_view StoredZip::Read(const std::string& name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) {
    throw Error(ErrorCode::kDataLoss, fmt::format("{}: has no zip entry {}", file_, Quoted(name)));
  }
  const Entry& entry = found->second;
  if (!entry.plain) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: zip entry {} is compressed or encrypted, which torch.save never "
                            "does: unpack it and zip it with 'zip -0'",
                            file_, Quoted(name)));
  }
  if (entry.crc32 != 0 && Crc32(entry.bytes) != entry.crc32) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: zip entry {} does not match its checksum: the file is damaged",
                            file_, Quoted(name)));
  }
  return entry.bytes;
}

}  // namespace fr
