#include "worker/dedupe/centre_file.h"

#include <charconv>
#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "common/base/checksum.h"
#include "common/base/error.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kHeaderBytes = 64;
constexpr std::string_view kMagic = "fr-centres 1 ";

std::string HeaderText(const CentreFileHeader& header) {
  return fmt::format("{:<63}\n",
                     fmt::format("{}{:016x} {} {}", kMagic, ChecksumOf(header.fingerprint),
                                 header.num_identities, header.dimension));
}

std::uint64_t RowBytes(std::int64_t dimension) {
  return static_cast<std::uint64_t>(dimension) * sizeof(float);
}

[[noreturn]] void ThrowIo(const fs::path& path, const char* what) {
  throw Error(ErrorCode::kIo, fmt::format("{}: cannot {}: {}", path.string(), what, ErrnoText()));
}

// A number of the header, and what follows it.
std::int64_t TakeNumber(std::string_view* text) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), number);
  if (error != std::errc() || number < 1 || number > (std::int64_t{1} << 40)) return 0;
  text->remove_prefix(static_cast<std::size_t>(end - text->data()));
  if (text->starts_with(' ')) text->remove_prefix(1);
  return number;
}

}  // namespace

CentreFileWriter::CentreFileWriter(const fs::path& path, const CentreFileHeader& header)
    : path_(path), dimension_(header.dimension) {
  const std::string wanted = HeaderText(header);
  std::error_code error;
  const std::uint64_t size = fs::exists(path) ? fs::file_size(path, error) : 0;
  if (size < kHeaderBytes) WriteFileAtomically(path, wanted);
  file_ = FileDescriptor(open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!file_.valid()) ThrowIo(path, "open");
  char found[kHeaderBytes];
  if (pread(file_.get(), found, kHeaderBytes, 0) != static_cast<ssize_t>(kHeaderBytes)) {
    ThrowIo(path, "read");
  }
  if (std::string_view(found, kHeaderBytes) != wanted) {
    throw Error(ErrorCode::kFailedPrecondition,
                fmt::format("{}: holds the centres of another set, or by another model; remove it, "
                            "or name another directory with --centres",
                            path.string()));
  }
  const std::uint64_t rows = size < kHeaderBytes ? 0 : (size - kHeaderBytes) / RowBytes(dimension_);
  done_ = std::min(static_cast<std::int64_t>(rows), header.num_identities);
  const auto whole =
      static_cast<off_t>(kHeaderBytes + static_cast<std::uint64_t>(done_) * RowBytes(dimension_));
  if (ftruncate(file_.get(), whole) != 0) ThrowIo(path, "cut");
  if (lseek(file_.get(), whole, SEEK_SET) != whole) ThrowIo(path, "seek");
}

void CentreFileWriter::Append(std::span<const float> rows) {
  WriteAll(file_.get(), {reinterpret_cast<const char*>(rows.data()), rows.size_bytes()}, path_);
  done_ += std::ssize(rows) / dimension_;
}

CentreFile::CentreFile(const fs::path& path) : file_(path, /*sequential=*/true) {
  std::string_view text = file_.bytes().substr(0, kHeaderBytes);
  const std::size_t numbers = kMagic.size() + 17;  // behind the checksum and its blank
  if (text.size() == kHeaderBytes && text.starts_with(kMagic)) {
    text.remove_prefix(numbers);
    num_identities_ = TakeNumber(&text);
    dimension_ = TakeNumber(&text);
  }
  const bool sane = num_identities_ > 0 && dimension_ > 0 && dimension_ < (1 << 20);
  if (!sane || file_.bytes().size() != kHeaderBytes + static_cast<std::uint64_t>(num_identities_) *
                                                          RowBytes(dimension_)) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: is no complete file of centres: remove it", path.string()));
  }
}

std::span<const float> CentreFile::Rows(std::int64_t begin, std::int64_t end) const {
  const auto* values = reinterpret_cast<const float*>(file_.bytes().data() + kHeaderBytes);
  return {values + begin * dimension_, static_cast<std::size_t>((end - begin) * dimension_)};
}

}  // namespace fr
