#include "worker/checkpoint/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <limits>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "common/base/checksum.h"
#include "common/base/error.h"
#include "common/base/file.h"

namespace fr {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors are little-endian");

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit

struct Dtype {
  const char* name;
  at::ScalarType type;
};
constexpr std::array<Dtype, 6> kDtypes = {{{"F32", at::kFloat},
                                           {"F64", at::kDouble},
                                           {"I64", at::kLong},
                                           {"F16", at::kHalf},
                                           {"BF16", at::kBFloat16},
                                           {"U8", at::kByte}}};

const char* DtypeName(at::ScalarType type) {
  for (const Dtype& dtype : kDtypes) {
    if (dtype.type == type) return dtype.name;
  }
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("tensors of {} cannot be saved", at::toString(type)));
}

std::string HeaderOf(const NamedTensors& tensors,
                     const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header;
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::int64_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    const std::int64_t end = offset + tensor.numel() * tensor.element_size();
    header[name] = {{"dtype", DtypeName(tensor.scalar_type())},
                    {"shape", tensor.sizes().vec()},
                    {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.is_null() ? "{}" : header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  return text;
}

// Writes to a temporary file and counts and sums what it writes.
class SummingWriter {
 public:
  explicit SummingWriter(std::filesystem::path path)
      : path_(std::move(path)),
        file_(open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)) {
    if (!file_.valid()) Fail("create");
  }

  void Write(const void* bytes, std::size_t size) {
    checksum_.Update(bytes, size);
    written_.bytes += static_cast<std::int64_t>(size);
    const auto* next = static_cast<const char*>(bytes);
    while (size > 0) {
      const ssize_t done = write(file_.get(), next, size);
      if (done < 0 && errno == EINTR) continue;
      if (done < 0) Fail("write");
      next += done;
      size -= static_cast<std::size_t>(done);
    }
  }

  WrittenFile CommitAs(const std::filesystem::path& final_path) {
    if (fsync(file_.get()) != 0) Fail("sync");
    file_.Close();
    if (rename(path_.c_str(), final_path.c_str()) != 0) Fail("rename");
    SyncDirectory(final_path.parent_path());
    written_.xxh3 = checksum_.Value();
    return written_;
  }

 private:
  [[noreturn]] void Fail(const char* what) {
    const int error_number = errno;
    unlink(path_.c_str());
    const bool full = error_number == ENOSPC || error_number == EDQUOT || error_number == EFBIG;
    throw Error(full ? ErrorCode::kResourceExhausted : ErrorCode::kIo,
                fmt::format("{}: cannot {}: {}", path_.string(), what, ErrnoText(error_number)));
  }

  std::filesystem::path path_;
  FileDescriptor file_;
  Checksum checksum_;
  WrittenFile written_;
};

struct Entry {
  at::ScalarType dtype = at::kFloat;
  std::vector<std::int64_t> shape;
  std::int64_t begin = 0;  // bytes behind the header
  std::int64_t end = 0;
};

// Elements of `shape` times `element_size`, or -1 if that overflows or a dimension is negative.
std::int64_t BytesOf(const std::vector<std::int64_t>& shape, std::int64_t element_size) {
  std::int64_t bytes = element_size;
  for (const std::int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(bytes, size, &bytes)) return -1;
  }
  return bytes;
}

}  // namespace

WrittenFile WriteSafetensors(const std::filesystem::path& path, const NamedTensors& tensors,
                             const std::map<std::string, std::string>& metadata) {
  const std::string header = HeaderOf(tensors, metadata);
  SummingWriter writer(path.string() + ".tmp");
  const std::uint64_t header_bytes = header.size();
  writer.Write(&header_bytes, sizeof(header_bytes));
  writer.Write(header.data(), header.size());
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor dense = tensor.contiguous().cpu();
    writer.Write(dense.const_data_ptr(), dense.nbytes());
  }
  return writer.CommitAs(path);
}

struct SafetensorsFile::Impl {
  std::filesystem::path path;
  FileDescriptor file;
  std::int64_t data_begin = 0;
  std::int64_t data_bytes = 0;
  std::map<std::string, Entry> entries;
  std::map<std::string, std::string> metadata;

  [[noreturn]] void Refuse(const std::string& what) const {
    throw Error(ErrorCode::kDataLoss, fmt::format("{}: {}", path.string(), what));
  }

  void ReadAt(void* bytes, std::int64_t size, std::int64_t offset) const {
    auto* next = static_cast<char*>(bytes);
    while (size > 0) {
      const ssize_t got = pread(file.get(), next, static_cast<std::size_t>(size), offset);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) {
        throw Error(ErrorCode::kIo, fmt::format("{}: cannot read: {}", path.string(), ErrnoText()));
      }
      if (got == 0) Refuse(fmt::format("ends at byte {}, where more is promised", offset));
      next += got;
      size -= got;
      offset += got;
    }
  }

  void ReadHeader() {
    const std::int64_t file_bytes = lseek(file.get(), 0, SEEK_END);
    std::uint64_t header_bytes = 0;
    if (file_bytes < 8) Refuse("is too short for a safetensors file");
    ReadAt(&header_bytes, sizeof(header_bytes), 0);
    if (header_bytes > kMaxHeaderBytes ||
        static_cast<std::int64_t>(header_bytes) > file_bytes - 8) {
      Refuse(
          fmt::format("promises a header of {} bytes in a file of {}", header_bytes, file_bytes));
    }
    std::string text(header_bytes, '\0');
    ReadAt(text.data(), static_cast<std::int64_t>(header_bytes), 8);
    data_begin = 8 + static_cast<std::int64_t>(header_bytes);
    data_bytes = file_bytes - data_begin;
    const nlohmann::json header = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!header.is_object()) Refuse("its header is no JSON object");
    for (const auto& [name, value] : header.items()) {
      try {
        name == "__metadata__" ? AddMetadata(value) : AddEntry(name, value);
      } catch (const nlohmann::json::exception&) {
        Refuse(fmt::format("tensor '{}': its entry in the header is malformed", name));
      }
    }
    CheckCoverage();
  }

  void AddMetadata(const nlohmann::json& value) {
    for (const auto& [key, text] : value.items()) metadata[key] = text.get<std::string>();
  }

  // A number like 1e72 cannot be converted to an integer.
  std::vector<std::int64_t> Integers(const std::string& name, const nlohmann::json& list) const {
    for (const nlohmann::json& item : list) {
      if (!item.is_number_integer()) {
        Refuse(fmt::format("tensor '{}': {} is no integer", name, item.dump()));
      }
    }
    return list.get<std::vector<std::int64_t>>();
  }

  void AddEntry(const std::string& name, const nlohmann::json& value) {
    Entry entry;
    const auto& dtype_name = value.at("dtype").get_ref<const std::string&>();
    const auto* dtype = std::find_if(kDtypes.begin(), kDtypes.end(),
                                     [&](const Dtype& d) { return dtype_name == d.name; });
    if (dtype == kDtypes.end()) {
      Refuse(fmt::format("tensor '{}': dtype {} is not supported", name, dtype_name));
    }
    entry.dtype = dtype->type;
    entry.shape = Integers(name, value.at("shape"));
    const std::vector<std::int64_t> offsets = Integers(name, value.at("data_offsets"));
    if (offsets.size() != 2) Refuse(fmt::format("tensor '{}': needs two data_offsets", name));
    entry.begin = offsets[0];
    entry.end = offsets[1];
    const std::int64_t bytes =
        BytesOf(entry.shape, static_cast<std::int64_t>(c10::elementSize(entry.dtype)));
    if (bytes < 0 || entry.begin < 0 || entry.end < entry.begin || entry.end > data_bytes ||
        entry.end - entry.begin != bytes) {
      Refuse(fmt::format("tensor '{}': its shape and its bytes [{}, {}) of {} do not fit", name,
                         entry.begin, entry.end, data_bytes));
    }
    entries[name] = std::move(entry);
  }

  // Tensors fill the data without gap or overlap.
  void CheckCoverage() const {
    std::vector<std::pair<std::int64_t, std::int64_t>> parts;
    for (const auto& [name, entry] : entries) parts.emplace_back(entry.begin, entry.end);
    std::sort(parts.begin(), parts.end());
    std::int64_t next = 0;
    for (const auto& [begin, end] : parts) {
      if (begin != next) Refuse(fmt::format("tensors overlap or leave a gap at byte {}", next));
      next = end;
    }
    if (next != data_bytes) {
      Refuse(fmt::format("holds {} bytes of data where its tensors have {}", data_bytes, next));
    }
  }
};

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : impl_(std::make_unique<Impl>()) {
  impl_->path = path;
  impl_->file = FileDescriptor(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!impl_->file.valid()) {
    throw Error(errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo,
                fmt::format("{}: cannot open: {}", path.string(), ErrnoText()));
  }
  impl_->ReadHeader();
}

SafetensorsFile::~SafetensorsFile() = default;

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : impl_->entries) names.push_back(name);
  return names;
}

const std::map<std::string, std::string>& SafetensorsFile::metadata() const {
  return impl_->metadata;
}

at::Tensor SafetensorsFile::Read(const std::string& name) const {
  return ReadRows(name, 0, std::numeric_limits<std::int64_t>::max());
}

std::map<std::string, at::Tensor> SafetensorsFile::ReadAll() const {
  std::map<std::string, at::Tensor> tensors;
  for (const std::string& name : names()) tensors[name] = Read(name);
  return tensors;
}

at::Tensor SafetensorsFile::ReadRows(const std::string& name, std::int64_t begin,
                                     std::int64_t end) const {
  const auto found = impl_->entries.find(name);
  if (found == impl_->entries.end()) {
    throw Error(ErrorCode::kNotFound,
                fmt::format("{}: no tensor '{}' in it", impl_->path.string(), name));
  }
  const Entry& entry = found->second;
  std::vector<std::int64_t> shape = entry.shape;
  std::int64_t offset = 0;
  if (!shape.empty() && shape[0] > 0) {
    end = std::min(end, shape[0]);
    if (begin < 0 || begin > end) {
      throw Error(ErrorCode::kInvalidArgument, fmt::format("{}: '{}' has no rows [{}, {})",
                                                           impl_->path.string(), name, begin, end));
    }
    offset = (entry.end - entry.begin) / shape[0] * begin;
    shape[0] = end - begin;
  }
  at::Tensor tensor = at::empty(shape, at::TensorOptions(entry.dtype));
  impl_->ReadAt(tensor.mutable_data_ptr(), static_cast<std::int64_t>(tensor.nbytes()),
                impl_->data_begin + entry.begin + offset);
  return tensor;
}

}  // namespace fr
