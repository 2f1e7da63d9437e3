#include "worker/data/records/record_writer.h"

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/raw_value.h"
#include "worker/data/records/record_format.h"

namespace fr {

using namespace record_format;

namespace {

constexpr std::size_t kRec = 0;
constexpr std::size_t kIdx = 1;

ResumableOptions MakeOptions(const std::filesystem::path& rec, const std::filesystem::path& idx,
                             const ResumeOptions& resume, const std::vector<ResumableFile>& more) {
  std::vector<ResumableFile> files = {{rec}, {idx}};
  files.insert(files.end(), more.begin(), more.end());
  return {rec.string() + ".journal", std::move(files), resume};
}

// Where the magic number lies, at multiples of four: the format looks for it nowhere else.
std::vector<std::size_t> FindMagic(std::string_view payload) {
  std::vector<std::size_t> found;
  for (std::size_t i = 0; i + 4 <= payload.size(); i += 4) {
    if (LoadRaw<std::uint32_t>(payload, i) == kMagic) found.push_back(i);
  }
  return found;
}

}  // namespace

RecordWriter::RecordWriter(const std::filesystem::path& rec, const std::filesystem::path& idx,
                           const ResumeOptions& resume, const std::vector<ResumableFile>& more)
    : rec_path_(rec), output_(MakeOptions(rec, idx, resume, more)) {}

void RecordWriter::AppendPart(std::uint32_t kind, std::string_view part) {
  AppendRaw(&record_, kMagic);
  AppendRaw(&record_, kind << kLengthBits | static_cast<std::uint32_t>(part.size()));
  record_ += part;
  record_.append(Padded(part.size()) - part.size(), '\0');
}

void RecordWriter::Write(std::uint64_t key, const std::vector<float>& labels,
                         std::string_view image) {
  const bool one = labels.size() == 1;
  payload_.clear();
  AppendRaw(&payload_, static_cast<std::uint32_t>(one ? 0 : labels.size()));
  AppendRaw(&payload_, one ? labels[0] : 0.0F);
  AppendRaw(&payload_, key);
  AppendRaw(&payload_, std::uint64_t{0});
  for (std::size_t i = 0; !one && i < labels.size(); ++i) {
    AppendRaw(&payload_, labels[i]);
  }
  payload_ += image;
  if (payload_.size() > kMaxPartBytes) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: a record of {} bytes; RecordIO holds {} at most",
                            rec_path_.string(), payload_.size(), kMaxPartBytes));
  }

  record_.clear();
  const std::vector<std::size_t> cuts = FindMagic(payload_);
  std::size_t begin = 0;
  for (const std::size_t cut : cuts) {
    AppendPart(cut == cuts.front() ? kFirst : kMiddle,
               std::string_view(payload_).substr(begin, cut - begin));
    begin = cut + 4;
  }
  AppendPart(cuts.empty() ? kWhole : kLast, std::string_view(payload_).substr(begin));
  output_.Append(kIdx, fmt::format("{}\t{}\n", key, output_.size(kRec)));
  output_.Append(kRec, record_);
}

}  // namespace fr
