#include "worker/data/record_io.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "common/base/error.h"
#include "common/base/file.h"

namespace fr {
namespace {

constexpr std::uint32_t kMagic = 0xced7230a;
constexpr std::uint32_t kMaxPartBytes = (1U << 29) - 1;
constexpr std::size_t kImageHeaderBytes = 24;
// The part of a record that a length field describes.
enum PartKind : std::uint32_t { kWhole = 0, kFirst = 1, kMiddle = 2, kLast = 3 };

template <typename Value>
Value Load(std::string_view bytes, std::size_t offset) {
  Value value;
  std::memcpy(&value, bytes.data() + offset, sizeof(value));
  return value;
}

template <typename Value>
void Append(std::string* bytes, Value value) {
  bytes->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

struct Part {
  std::uint32_t kind = 0;
  std::string_view payload;
  std::size_t end = 0;  // offset of what follows
};

class PartReader {
 public:
  PartReader(const std::filesystem::path& path, std::string_view file) : path_(path), file_(file) {}

  Part Read(std::uint64_t offset) const {
    if (offset > file_.size() || file_.size() - offset < 8) Fail(offset, "lies beyond the end");
    if (Load<std::uint32_t>(file_, offset) != kMagic) {
      Fail(offset, "does not begin with the magic number of RecordIO");
    }
    const auto length_field = Load<std::uint32_t>(file_, offset + 4);
    const std::uint64_t length = length_field & kMaxPartBytes;
    if (length > file_.size() - offset - 8) Fail(offset, "reaches beyond the end");
    return {length_field >> 29, file_.substr(offset + 8, length),
            offset + 8 + (length + 3) / 4 * 4};
  }

  [[noreturn]] void Fail(std::uint64_t offset, const char* what) const {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: the record at byte {} {} of the file's {} bytes: the file is "
                            "truncated or damaged, or its train.idx belongs to another; copy both "
                            "again",
                            path_.string(), offset, what, file_.size()));
  }

 private:
  const std::filesystem::path& path_;
  std::string_view file_;
};

// The payload without its header, which goes into `record`.
void ParsePayload(std::string_view payload, const PartReader& reader, std::uint64_t offset,
                  ImageRecord* record) {
  if (payload.size() < kImageHeaderBytes) reader.Fail(offset, "is shorter than an image header");
  const auto flag = Load<std::uint32_t>(payload, 0);
  record->id = Load<std::uint64_t>(payload, 8);
  record->labels.clear();
  const std::string_view rest = payload.substr(kImageHeaderBytes);
  if (flag == 0) {
    record->labels.push_back(Load<float>(payload, 4));
    record->image = rest;
    return;
  }
  if (flag > rest.size() / sizeof(float))
    reader.Fail(offset, "announces more labels than it holds");
  for (std::uint32_t i = 0; i < flag; ++i) {
    record->labels.push_back(Load<float>(rest, i * sizeof(float)));
  }
  record->image = rest.substr(flag * sizeof(float));
}

}  // namespace

RecordFile::RecordFile(const std::filesystem::path& path) : path_(path), file_(path, false) {}

void RecordFile::Read(std::uint64_t offset, ImageRecord* record) const {
  const PartReader reader(path_, file_.bytes());
  record->joined.clear();
  Part part = reader.Read(offset);
  if (part.kind == kWhole) {
    ParsePayload(part.payload, reader, offset, record);
    return;
  }
  if (part.kind != kFirst) reader.Fail(offset, "is the rest of another record");
  // A payload that held the magic number was cut there; the number itself was left out.
  record->joined = part.payload;
  do {
    part = reader.Read(part.end);
    if (part.kind != kMiddle && part.kind != kLast) reader.Fail(offset, "lacks its last part");
    Append(&record->joined, kMagic);
    record->joined += part.payload;
  } while (part.kind != kLast);
  ParsePayload(record->joined, reader, offset, record);
}

RecordWriter::RecordWriter(const std::filesystem::path& rec, const std::filesystem::path& idx)
    : rec_path_(rec), idx_path_(idx) {
  rec_.open(rec.string() + ".partial", std::ios::binary | std::ios::trunc);
  idx_.open(idx.string() + ".partial", std::ios::binary | std::ios::trunc);
  if (!rec_ || !idx_) {
    throw Error(ErrorCode::kIo,
                fmt::format("{}: cannot be written: {}", rec.string(), ErrnoText()));
  }
}

void RecordWriter::WritePart(std::uint32_t kind, std::string_view part) {
  if (part.size() > kMaxPartBytes) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: a record of {} bytes; RecordIO holds {} at most",
                            rec_path_.string(), part.size(), kMaxPartBytes));
  }
  std::string header;
  Append(&header, kMagic);
  Append(&header, kind << 29 | static_cast<std::uint32_t>(part.size()));
  const std::size_t padding = (4 - part.size() % 4) % 4;
  rec_ << header << part << std::string(padding, '\0');
  offset_ += header.size() + part.size() + padding;
}

void RecordWriter::Write(std::uint64_t key, const std::vector<float>& labels,
                         std::string_view image) {
  std::string payload;
  Append(&payload, static_cast<std::uint32_t>(labels.size() == 1 ? 0 : labels.size()));
  Append(&payload, labels.size() == 1 ? labels[0] : 0.0F);
  Append(&payload, key);
  Append(&payload, std::uint64_t{0});
  if (labels.size() != 1) {
    for (const float label : labels) Append(&payload, label);
  }
  payload += image;
  idx_ << fmt::format("{}\t{}\n", key, offset_);

  // The format looks for the magic number at multiples of four only.
  std::vector<std::size_t> cuts;
  for (std::size_t i = 0; i + 4 <= payload.size(); i += 4) {
    if (Load<std::uint32_t>(payload, i) == kMagic) cuts.push_back(i);
  }
  std::size_t begin = 0;
  for (const std::size_t cut : cuts) {
    WritePart(begin == 0 && cut == cuts.front() ? kFirst : kMiddle,
              std::string_view(payload).substr(begin, cut - begin));
    begin = cut + 4;
  }
  WritePart(cuts.empty() ? kWhole : kLast, std::string_view(payload).substr(begin));
  if (!rec_ || !idx_) {
    throw Error(ErrorCode::kIo, fmt::format("{}: cannot be written: {}; is the disk full?",
                                            rec_path_.string(), ErrnoText()));
  }
}

void RecordWriter::Finish() {
  rec_.close();
  idx_.close();
  for (const std::filesystem::path& path : {rec_path_, idx_path_}) {
    const std::string partial = path.string() + ".partial";
    const FileDescriptor file(open(partial.c_str(), O_RDONLY | O_CLOEXEC));
    if (!rec_ || !idx_ || !file.valid() || fsync(file.get()) != 0 ||
        rename(partial.c_str(), path.c_str()) != 0) {
      throw Error(ErrorCode::kIo, fmt::format("{}: cannot be written: {}; is the disk full?",
                                              path.string(), ErrnoText()));
    }
  }
  SyncDirectory(rec_path_.parent_path());
}

std::vector<IndexEntry> ReadIndex(const std::filesystem::path& path) {
  const MappedFile file(path, true);
  const std::string_view text = file.bytes();
  std::vector<IndexEntry> entries;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at != end) {
    const char* line_end = std::find(at, end, '\n');
    IndexEntry entry;
    const auto [tab, key_error] = std::from_chars(at, line_end, entry.key);
    const bool has_key = key_error == std::errc() && tab != line_end && *tab == '\t';
    const auto [rest, error] = has_key ? std::from_chars(tab + 1, line_end, entry.offset)
                                       : std::from_chars_result{at, std::errc::invalid_argument};
    if (error != std::errc() || (rest != line_end && *rest != '\r')) {
      throw Error(ErrorCode::kDataLoss,
                  fmt::format("{}:{}: is no 'key<TAB>offset': the file is truncated or damaged; "
                              "copy it again",
                              path.string(), entries.size() + 1));
    }
    entries.push_back(entry);
    at = line_end == end ? end : line_end + 1;
  }
  return entries;
}

}  // namespace fr
