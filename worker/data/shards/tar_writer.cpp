#include "worker/data/shards/tar_writer.h"

#include <cerrno>
#include <cstdio>
#include <string>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "worker/data/shards/tar_format.h"

namespace fr {

using namespace tar_format;

namespace {

void Put(std::string* header, const Field& field, std::string_view text) {
  header->replace(field.offset, text.size(), text);
}

std::string Header(std::string_view name, std::uint64_t size) {
  std::string header(kBlockBytes, '\0');
  Put(&header, kName, name);
  Put(&header, kMode, "0000644");
  Put(&header, kOwner, "0000000");
  Put(&header, kGroup, "0000000");
  Put(&header, kSize, fmt::format("{:011o}", size));
  Put(&header, kTime, "00000000000");
  header[kKindAt] = '0';
  Put(&header, kMagic,
      {"ustar\0"
       "00",
       8});
  Put(&header, kChecksum, fmt::format("{:06o}", ChecksumOfHeader(header)));
  header[kChecksum.offset + 7] = ' ';
  return header;
}

}  // namespace

TarWriter::TarWriter(const std::filesystem::path& path)
    : path_(path), partial_(path.string() + ".partial") {
  file_.open(partial_, std::ios::binary | std::ios::trunc);
  CheckWritten();
}

TarWriter::~TarWriter() {
  std::error_code ignored;
  if (!finished_) std::filesystem::remove(partial_, ignored);
}

void TarWriter::CheckWritten() const {
  if (file_) return;
  throw Error(ErrorCode::kIo, fmt::format("{}: cannot be written: {}; is the disk full?",
                                          path_.string(), ErrnoText()));
}

void TarWriter::Add(std::string_view name, std::string_view content) {
  constexpr std::uint64_t kMaxSize = 077777777777;
  if (content.size() > kMaxSize) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: {} has {} bytes; a ustar archive holds {} at most", path_.string(),
                            name, content.size(), kMaxSize));
  }
  const std::uint64_t padded = Padded(content.size());
  file_ << Header(name, content.size()) << content << std::string(padded - content.size(), '\0');
  CheckWritten();
  size_ += kBlockBytes + padded;
}

void TarWriter::Finish() {
  file_ << std::string(2 * kBlockBytes, '\0');
  size_ += 2 * kBlockBytes;
  file_.close();
  CheckWritten();
  const FileDescriptor file(open(partial_.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid() || fsync(file.get()) != 0 || rename(partial_.c_str(), path_.c_str()) != 0) {
    throw Error(ErrorCode::kIo,
                fmt::format("{}: cannot be written: {}", path_.string(), ErrnoText()));
  }
  finished_ = true;
  SyncDirectory(path_.has_parent_path() ? path_.parent_path() : ".");
}

}  // namespace fr
