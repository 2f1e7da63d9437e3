#include "worker/data/record_writer.h"

#include <string>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "worker/data/record_format.h"

namespace fr {

using namespace record_format;

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
  Append(&header, kind << kLengthBits | static_cast<std::uint32_t>(part.size()));
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

}  // namespace fr
