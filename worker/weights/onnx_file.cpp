#include "worker/weights/onnx_file.h"

#include <charconv>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

#include "common/base/error.h"
#include "common/base/mapped_file.h"
#include "common/base/quoted.h"
#include "proto/onnx.pb.h"

namespace fr {
namespace {

using onnx::TensorProto;

// Messages and texts in one file: in memory each takes some hundred bytes, in the file two.
constexpr std::int64_t kMaxParts = 1 << 22;
constexpr int kMaxDepth = 32;
constexpr int kMaxDimensions = 32;

[[noreturn]] void Fail(const std::string& what) { throw Error(ErrorCode::kDataLoss, what); }

// Counts what a message consists of without building it; `bytes` may be anything.
std::int64_t CountParts(std::string_view bytes, const google::protobuf::Descriptor* type,
                        int depth) {
  using google::protobuf::FieldDescriptor;
  using google::protobuf::internal::WireFormatLite;
  if (depth == 0) Fail(fmt::format("is nested deeper than {} messages", kMaxDepth));
  google::protobuf::io::CodedInputStream input(reinterpret_cast<const std::uint8_t*>(bytes.data()),
                                               static_cast<int>(bytes.size()));
  std::int64_t parts = 1;
  while (const std::uint32_t tag = input.ReadTag()) {
    if (WireFormatLite::GetTagWireType(tag) != WireFormatLite::WIRETYPE_LENGTH_DELIMITED) {
      if (!WireFormatLite::SkipField(&input, tag)) break;
      continue;
    }
    std::uint32_t size = 0;
    if (!input.ReadVarint32(&size)) break;
    const auto at = static_cast<std::size_t>(input.CurrentPosition());
    if (size > bytes.size() - at) break;
    const FieldDescriptor* field = type->FindFieldByNumber(WireFormatLite::GetTagFieldNumber(tag));
    if (field != nullptr && field->message_type() != nullptr) {
      parts += CountParts(bytes.substr(at, size), field->message_type(), depth - 1);
    } else {
      ++parts;
    }
    if (parts > kMaxParts) Fail(fmt::format("consists of more than {} parts", kMaxParts));
    input.Skip(static_cast<int>(size));
  }
  return parts;
}

std::optional<Dtype> DtypeOf(std::int32_t type) {
  switch (type) {
    case TensorProto::FLOAT:
      return Dtype::kFloat32;
    case TensorProto::DOUBLE:
      return Dtype::kFloat64;
    case TensorProto::FLOAT16:
      return Dtype::kFloat16;
    case TensorProto::BFLOAT16:
      return Dtype::kBFloat16;
    case TensorProto::INT8:
      return Dtype::kInt8;
    case TensorProto::INT16:
      return Dtype::kInt16;
    case TensorProto::INT32:
      return Dtype::kInt32;
    case TensorProto::INT64:
      return Dtype::kInt64;
    case TensorProto::UINT8:
      return Dtype::kUInt8;
    case TensorProto::UINT16:
      return Dtype::kUInt16;
    case TensorProto::UINT32:
      return Dtype::kUInt32;
    case TensorProto::UINT64:
      return Dtype::kUInt64;
    case TensorProto::BOOL:
      return Dtype::kBool;
    default:
      return std::nullopt;
  }
}

// The low bytes of each number.
template <typename Numbers>
std::string Narrowed(const Numbers& numbers, std::int64_t element_bytes) {
  std::string bytes;
  bytes.reserve(static_cast<std::size_t>(numbers.size() * element_bytes));
  for (const auto number : numbers) {
    bytes.append(reinterpret_cast<const char*>(&number), static_cast<std::size_t>(element_bytes));
  }
  return bytes;
}

// The elements from the field of their type.
std::string TypedBytes(const TensorProto& tensor, Dtype dtype) {
  switch (dtype) {
    case Dtype::kFloat32:
      return Narrowed(tensor.float_data(), 4);
    case Dtype::kFloat64:
      return Narrowed(tensor.double_data(), 8);
    case Dtype::kInt64:
      return Narrowed(tensor.int64_data(), 8);
    case Dtype::kUInt32:
    case Dtype::kUInt64:
      return Narrowed(tensor.uint64_data(), ElementBytes(dtype));
    default:
      return Narrowed(tensor.int32_data(), ElementBytes(dtype));
  }
}

struct TypeAndShape {
  Dtype dtype;
  std::vector<std::int64_t> shape;
  std::int64_t bytes;
};

TypeAndShape HeaderOf(const TensorProto& tensor) {
  const std::optional<Dtype> dtype = DtypeOf(tensor.data_type());
  if (!dtype) Fail(fmt::format("data type {} is not read", tensor.data_type()));
  if (tensor.dims_size() > kMaxDimensions) {
    Fail(fmt::format("has {} dimensions", tensor.dims_size()));
  }
  std::vector<std::int64_t> shape(tensor.dims().begin(), tensor.dims().end());
  const std::int64_t bytes = CountBytes(*dtype, shape);
  if (bytes < 0) Fail(fmt::format("shape {} is impossible", ShapeText(shape)));
  return {*dtype, std::move(shape), bytes};
}

[[noreturn]] void FailSize(const TypeAndShape& header, std::size_t bytes) {
  Fail(fmt::format("{} {} needs {} bytes, {} are there", DtypeName(header.dtype),
                   ShapeText(header.shape), header.bytes, bytes));
}

// Files beside the model, each mapped once.
class ExternalFiles {
 public:
  explicit ExternalFiles(std::filesystem::path directory) : directory_(std::move(directory)) {}

  HostTensor Read(const TensorProto& tensor) {
    TypeAndShape header = HeaderOf(tensor);
    std::string location;
    std::uint64_t offset = 0;
    std::optional<std::uint64_t> length;
    for (const auto& entry : tensor.external_data()) {
      if (entry.key() == "location") location = entry.value();
      if (entry.key() == "offset") offset = Number(entry.value());
      if (entry.key() == "length") length = Number(entry.value());
    }
    const std::shared_ptr<const MappedFile> file = Open(location);
    const std::string_view bytes = file->bytes();
    const auto size = static_cast<std::uint64_t>(header.bytes);
    if (offset > bytes.size() || size > bytes.size() - offset || length.value_or(size) != size) {
      Fail(fmt::format("needs {} bytes at {} of {}, which has {}", size, offset, Quoted(location),
                       bytes.size()));
    }
    return {header.dtype, std::move(header.shape), bytes.substr(offset, size), file};
  }

 private:
  static std::uint64_t Number(const std::string& text) {
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size()) {
      Fail(fmt::format("{} is no offset or length of external data", Quoted(text)));
    }
    return number;
  }

  // Only a plain name: a model may not point at other files of this machine.
  std::shared_ptr<const MappedFile> Open(const std::string& location) {
    const std::filesystem::path name = location;
    std::error_code ignored;
    if (name.empty() || name != name.filename() || name == "." || name == ".." ||
        std::filesystem::is_symlink(directory_ / name, ignored)) {
      Fail(fmt::format("its data lies in {}; only files in the model's own directory are read",
                       Quoted(location)));
    }
    std::shared_ptr<const MappedFile>& file = files_[location];
    if (!file) file = std::make_shared<const MappedFile>(directory_ / name, /*sequential=*/true);
    return file;
  }

  std::filesystem::path directory_;
  std::map<std::string, std::shared_ptr<const MappedFile>> files_;
};

void ReadModel(const std::filesystem::path& path, OnnxModel* model) {
  const MappedFile file(path, /*sequential=*/true);
  const std::string_view bytes = file.bytes();
  if (bytes.size() > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max())) {
    Fail("has more than 2 GiB, which the format does not allow");
  }
  CountParts(bytes, onnx::ModelProto::descriptor(), kMaxDepth);
  const auto proto = std::make_shared<onnx::ModelProto>();
  if (!proto->ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    Fail("is no ONNX model: truncated or damaged");
  }
  if (!proto->has_graph() || proto->graph().node().empty()) {
    Fail("is no ONNX model: it has no graph");
  }
  model->proto = proto;
  for (const auto& opset : proto->opset_import()) {
    if (opset.domain().empty() || opset.domain() == "ai.onnx") model->opset = opset.version();
  }
  for (const auto& entry : proto->metadata_props()) model->metadata[entry.key()] = entry.value();
  ExternalFiles external(path.parent_path());
  for (const TensorProto& tensor : proto->graph().initializer()) {
    try {
      HostTensor value = tensor.data_location() == TensorProto::EXTERNAL
                             ? external.Read(tensor)
                             : TensorOf(tensor, model->proto);
      if (!model->initializers.Add(tensor.name(), std::move(value))) Fail("is there twice");
    } catch (const Error& error) {
      throw Error(error.code(),
                  fmt::format("initializer {}: {}", Quoted(tensor.name()), error.what()));
    }
  }
}

}  // namespace

HostTensor TensorOf(const TensorProto& tensor,
                    const std::shared_ptr<const onnx::ModelProto>& model) {
  if (tensor.data_location() == TensorProto::EXTERNAL) Fail("its data is external");
  TypeAndShape header = HeaderOf(tensor);
  if (tensor.has_raw_data()) {
    const std::string_view raw = tensor.raw_data();
    if (raw.size() != static_cast<std::size_t>(header.bytes)) FailSize(header, raw.size());
    return {header.dtype, std::move(header.shape), raw, model};
  }
  std::string bytes = TypedBytes(tensor, header.dtype);
  if (bytes.size() != static_cast<std::size_t>(header.bytes)) FailSize(header, bytes.size());
  return HostTensor::FromBytes(header.dtype, std::move(header.shape), std::move(bytes));
}

OnnxModel ReadOnnx(const std::filesystem::path& path) {
  OnnxModel model;
  try {
    ReadModel(path, &model);
  } catch (const Error& error) {
    // What the system said names the path already.
    const std::string text = error.what();
    if (text.starts_with(path.string())) throw;
    throw Error(error.code(), fmt::format("{}: {}", path.string(), text));
  }
  return model;
}

}  // namespace fr
