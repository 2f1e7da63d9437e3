#include "worker/weights/mxnet_file.h"

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "common/base/byte_cursor.h"
#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/mapped_file.h"
#include "common/base/quoted.h"

namespace fr {
namespace {

constexpr std::uint64_t kListMagic = 0x112;
// A tensor starts with one of these; the oldest version has no magic, but its number of dimensions.
constexpr std::uint32_t kMagicV1 = 0xf993fac8;
constexpr std::uint32_t kMagicV2 = 0xf993fac9;
constexpr std::uint32_t kMagicV3 = 0xf993faca;  // V2 where a scalar has no dimensions
constexpr std::uint32_t kMaxDimensions = 32;

// By the type flag.
constexpr std::array<Dtype, 13> kTypes = {
    Dtype::kFloat32, Dtype::kFloat64, Dtype::kFloat16, Dtype::kUInt8, Dtype::kInt32,
    Dtype::kInt8,    Dtype::kInt64,   Dtype::kBool,    Dtype::kInt16, Dtype::kUInt16,
    Dtype::kUInt32,  Dtype::kUInt64,  Dtype::kBFloat16};

template <typename Size>
std::vector<std::int64_t> TakeSizes(std::uint32_t dimensions, ByteCursor* cursor) {
  if (dimensions > kMaxDimensions) {
    cursor->Fail(fmt::format("a tensor of {} dimensions; at most {} are expected", dimensions,
                             kMaxDimensions));
  }
  std::vector<std::int64_t> sizes;
  for (std::uint32_t d = 0; d < dimensions; ++d) sizes.push_back(cursor->Take<Size>("a dimension"));
  return sizes;
}

// Nothing for a tensor that was never given values.
std::optional<std::vector<std::int64_t>> TakeShape(ByteCursor* cursor) {
  const auto magic = cursor->Take<std::uint32_t>("a tensor's magic number");
  if (magic != kMagicV1 && magic != kMagicV2 && magic != kMagicV3) {
    if (magic == 0) return std::nullopt;
    return TakeSizes<std::uint32_t>(magic, cursor);
  }
  if (magic != kMagicV1) {
    const auto storage = cursor->Take<std::int32_t>("storage type");
    if (storage != 0 && storage != -1) {
      cursor->Fail(fmt::format("a sparse tensor (storage type {}); dense ones are read", storage));
    }
  }
  const auto dimensions = cursor->Take<std::int32_t>("number of dimensions");
  if (magic == kMagicV3 ? dimensions == -1 : dimensions == 0) return std::nullopt;
  return TakeSizes<std::int64_t>(static_cast<std::uint32_t>(dimensions), cursor);
}

HostTensor TakeTensor(ByteCursor* cursor, const std::shared_ptr<const void>& owner) {
  std::optional<std::vector<std::int64_t>> shape = TakeShape(cursor);
  if (!shape) return {Dtype::kFloat32, {0}, {}, owner};
  cursor->Take(8, "device");
  const auto type = cursor->Take<std::uint32_t>("type");
  if (type >= kTypes.size()) cursor->Fail(fmt::format("type {} is unknown", type));
  const std::int64_t bytes = CountBytes(kTypes[type], *shape);
  if (bytes < 0) cursor->Fail(fmt::format("shape {} is impossible", ShapeText(*shape)));
  const std::string_view data = cursor->Take(
      static_cast<std::uint64_t>(bytes), fmt::format("a tensor of shape {}", ShapeText(*shape)));
  return {kTypes[type], std::move(*shape), data, owner};
}

// A count of things that take `least_bytes` each or more.
std::uint64_t TakeCount(std::uint64_t least_bytes, const char* what, ByteCursor* cursor) {
  const auto count = cursor->Take<std::uint64_t>(what);
  if (count > cursor->left() / least_bytes) {
    cursor->Fail(fmt::format("{}: {} do not fit into {} bytes", what, count, cursor->left()));
  }
  return count;
}

// What is wrong with a symbol; the file's name is added where it is known.
[[noreturn]] void FailSymbol(const std::string& what) { throw Error(ErrorCode::kDataLoss, what); }

MxnetEntry EntryOf(const nlohmann::json& value, std::size_t num_nodes) {
  // [node, output], later versions add a third number. Only integers are taken as such: there is no
  // converting a number like 1e72.
  const auto number = [&value](std::size_t index) {
    return value.at(index).is_number_unsigned() ? value.at(index).get<std::size_t>() : SIZE_MAX;
  };
  MxnetEntry entry;
  entry.node = number(0);
  entry.output = value.size() > 1 ? number(1) : 0;
  if (entry.node >= num_nodes) {
    FailSymbol(fmt::format("refers to node {} of {}", value.at(0).dump(), num_nodes));
  }
  if (entry.output == SIZE_MAX) {
    FailSymbol(fmt::format("refers to output {} of a node", value.at(1).dump()));
  }
  return entry;
}

MxnetNode NodeOf(const nlohmann::json& value, std::size_t index) {
  MxnetNode node;
  node.op = value.at("op").get<std::string>();
  node.name = value.at("name").get<std::string>();
  // Versions before 1.0 call them "attr", those before 0.9 "param" and keep others in "attr".
  for (const char* key : {"attrs", "attr", "param"}) {
    const auto found = value.find(key);
    if (found == value.end()) continue;
    for (const auto& [name, text] : found->items()) {
      node.attributes[name] = text.is_string() ? text.get<std::string>() : text.dump();
    }
  }
  for (const auto& input : value.at("inputs")) node.inputs.push_back(EntryOf(input, index));
  return node;
}

MxnetSymbol SymbolOf(const nlohmann::json& json) {
  MxnetSymbol symbol;
  const nlohmann::json& nodes = json.at("nodes");
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    try {
      symbol.nodes.push_back(NodeOf(nodes.at(i), i));
    } catch (const nlohmann::json::exception& error) {
      FailSymbol(fmt::format("node {}: {}", i, error.what()));
    } catch (const Error& error) {
      FailSymbol(fmt::format("node {}: {}", i, error.what()));
    }
  }
  for (const auto& head : json.at("heads")) {
    symbol.heads.push_back(EntryOf(head, symbol.nodes.size()));
  }
  if (symbol.heads.empty()) FailSymbol("has no heads");
  return symbol;
}

}  // namespace

HostTensors ReadMxnetParams(const std::filesystem::path& path) {
  const auto owner = std::make_shared<const MappedFile>(path, /*sequential=*/true);
  if (owner->bytes().starts_with("PK")) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: is a zip file, as MXNet 2 writes; those of MXNet 0.x and 1.x are "
                            "read",
                            path.string()));
  }
  ByteCursor cursor(owner->bytes(), path.string());
  if (cursor.Take<std::uint64_t>("the list's magic number") != kListMagic) {
    cursor.Fail(fmt::format("is no MXNet parameter file: 0x{:x} is expected first", kListMagic));
  }
  cursor.Take(8, "a reserved field");
  const std::uint64_t count = TakeCount(4, "number of tensors", &cursor);
  std::vector<HostTensor> tensors;
  for (std::uint64_t i = 0; i < count; ++i) tensors.push_back(TakeTensor(&cursor, owner));
  const std::uint64_t names = TakeCount(8, "number of names", &cursor);
  if (names != count) cursor.Fail(fmt::format("{} names for {} tensors", names, count));
  HostTensors named;
  for (HostTensor& tensor : tensors) {
    const auto length = cursor.Take<std::uint64_t>("length of a name");
    std::string name(cursor.Take(length, "a name"));
    if (!named.Add(name, std::move(tensor)))
      cursor.Fail(fmt::format("{} is there twice", Quoted(name)));
  }
  if (cursor.left() != 0) cursor.Fail(fmt::format("{} bytes follow the last name", cursor.left()));
  return named;
}

MxnetSymbol ReadMxnetSymbol(const std::filesystem::path& path) {
  const nlohmann::json json =
      nlohmann::json::parse(ReadFile(path), nullptr, /*allow_exceptions=*/false);
  try {
    if (!json.is_object()) FailSymbol("is no JSON object");
    return SymbolOf(json);
  } catch (const nlohmann::json::exception& error) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: is no MXNet symbol: {}", path.string(), error.what()));
  } catch (const Error& error) {
    throw Error(error.code(),
                fmt::format("{}: is no MXNet symbol: {}", path.string(), error.what()));
  }
}

}  // namespace fr
