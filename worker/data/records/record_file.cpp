#include "worker/data/records/record_file.h"

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/raw_value.h"
#include "worker/data/records/record_format.h"

namespace fr {

using namespace record_format;

namespace {

struct Part {
  std::uint32_t kind = 0;
  std::string_view payload;
};

// The part at `*offset`, which moves to its end. Returns what is wrong with it, or null.
const char* ParsePart(std::string_view file, std::uint64_t* offset, Part* part) {
  if (*offset > file.size() || file.size() - *offset < kPartHeaderBytes) {
    return "lies beyond the end of the file";
  }
  if (LoadRaw<std::uint32_t>(file, *offset) != kMagic) {
    return "does not begin with the magic number of RecordIO";
  }
  const auto length_field = LoadRaw<std::uint32_t>(file, *offset + sizeof(kMagic));
  const std::uint64_t length = length_field & kMaxPartBytes;
  const std::uint64_t begin = *offset + kPartHeaderBytes;
  if (Padded(length) > file.size() - begin) return "reaches beyond the end of the file";
  part->kind = length_field >> kLengthBits;
  part->payload = file.substr(begin, length);
  *offset = begin + Padded(length);
  return nullptr;
}

// The payload without its header, which goes into `record`.
const char* ParsePayload(std::string_view payload, ImageRecord* record) {
  if (payload.size() < kImageHeaderBytes) return "is shorter than an image header";
  record->flag = LoadRaw<std::uint32_t>(payload, kFlagAt);
  record->id = LoadRaw<std::uint64_t>(payload, kIdAt);
  record->labels.clear();
  const std::string_view rest = payload.substr(kImageHeaderBytes);
  if (record->flag == 0) {
    record->labels.push_back(LoadRaw<float>(payload, kLabelAt));
    record->image = rest;
    return nullptr;
  }
  if (record->flag > rest.size() / sizeof(float)) return "announces more labels than it holds";
  for (std::uint32_t i = 0; i < record->flag; ++i) {
    record->labels.push_back(LoadRaw<float>(rest, i * sizeof(float)));
  }
  record->image = rest.substr(record->flag * sizeof(float));
  return nullptr;
}

}  // namespace

const char* ParseRecord(std::string_view file, std::uint64_t offset, ImageRecord* record,
                        std::uint64_t* end) {
  record->joined.clear();
  Part part;
  *end = offset;
  if (const char* wrong = ParsePart(file, end, &part)) return wrong;
  if (part.kind == kWhole) return ParsePayload(part.payload, record);
  if (part.kind != kFirst) return "is the rest of another record";
  // A payload that held the magic number was cut there; the number itself was left out.
  record->joined = part.payload;
  do {
    if (ParsePart(file, end, &part) != nullptr) return "lacks its last part";
    if (part.kind != kMiddle && part.kind != kLast) return "runs into another record";
    AppendRaw(&record->joined, kMagic);
    record->joined += part.payload;
  } while (part.kind != kLast);
  return ParsePayload(record->joined, record);
}

RecordFile::RecordFile(const std::filesystem::path& path) : path_(path), file_(path, false) {}

std::uint64_t RecordFile::Read(std::uint64_t offset, ImageRecord* record) const {
  std::uint64_t end = 0;
  const char* wrong = ParseRecord(file_.bytes(), offset, record, &end);
  if (wrong == nullptr) return end;
  throw Error(ErrorCode::kDataLoss,
              fmt::format("{}: the record at byte {} {} (of {} bytes): the file is truncated or "
                          "damaged, or its train.idx belongs to another; copy both again",
                          path_.string(), offset, wrong, file_.bytes().size()));
}

}  // namespace fr
