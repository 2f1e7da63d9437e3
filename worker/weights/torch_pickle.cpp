#include "worker/weights/torch_pickle.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/quoted.h"

namespace fr {
namespace {

using Kind = PickleValue::Kind;

constexpr std::string_view kTensorV1 = "torch._utils._rebuild_tensor";
constexpr std::string_view kTensorV2 = "torch._utils._rebuild_tensor_v2";
constexpr std::string_view kTensorV3 = "torch._utils._rebuild_tensor_v3";
constexpr std::string_view kParameter = "torch._utils._rebuild_parameter";
constexpr std::string_view kSize = "torch.Size";
constexpr std::string_view kUntypedStorage = "torch.storage.UntypedStorage";

struct TypeNames {
  std::string_view storage;
  std::string_view dtype;
  Dtype type;
};
constexpr std::array<TypeNames, 13> kTypes = {{
    {"torch.FloatStorage", "torch.float32", Dtype::kFloat32},
    {"torch.DoubleStorage", "torch.float64", Dtype::kFloat64},
    {"torch.HalfStorage", "torch.float16", Dtype::kFloat16},
    {"torch.BFloat16Storage", "torch.bfloat16", Dtype::kBFloat16},
    {"torch.CharStorage", "torch.int8", Dtype::kInt8},
    {"torch.ShortStorage", "torch.int16", Dtype::kInt16},
    {"torch.IntStorage", "torch.int32", Dtype::kInt32},
    {"torch.LongStorage", "torch.int64", Dtype::kInt64},
    {"torch.ByteStorage", "torch.uint8", Dtype::kUInt8},
    {"torch.BoolStorage", "torch.bool", Dtype::kBool},
    {"", "torch.uint16", Dtype::kUInt16},
    {"", "torch.uint32", Dtype::kUInt32},
    {"", "torch.uint64", Dtype::kUInt64},
}};

const std::vector<std::string_view>& AllowedNames() {
  static const std::vector<std::string_view> names = [] {
    std::vector<std::string_view> all = {"collections.OrderedDict",
                                         "torch.device",
                                         kSize,
                                         kTensorV1,
                                         kTensorV2,
                                         kTensorV3,
                                         kParameter,
                                         kUntypedStorage};
    for (const TypeNames& type : kTypes) {
      if (!type.storage.empty()) all.push_back(type.storage);
      all.push_back(type.dtype);
    }
    return all;
  }();
  return names;
}

// Where a whole checkpoint keeps the network.
constexpr std::string_view kInnerDicts[] = {"state_dict", "model", "state_dict_backbone",
                                            "backbone", "net"};
constexpr int kMaxNesting = 4;
constexpr std::string_view kDataParallel = "module.";
constexpr std::size_t kMaxDimensions = 64;  // PyTorch's own limit

[[noreturn]] void Fail(const std::string& what) { throw Error(ErrorCode::kDataLoss, what); }

// Shared storages and strides let a small file ask for any amount of memory: copies may not
// exceed what the file holds by more than this factor.
constexpr std::int64_t kMaxCopyFactor = 4;
constexpr std::int64_t kMinCopyBudget = 1 << 20;

// Copies a strided tensor of `shape`, all of which lies in `storage`.
std::string CopyDense(std::string_view storage, std::int64_t element_bytes, std::int64_t offset,
                      std::vector<std::int64_t> shape, std::vector<std::int64_t> strides) {
  // Dimensions of size one would only cost time.
  for (std::size_t d = shape.size(); d-- > 0;) {
    if (shape[d] != 1) continue;
    shape.erase(shape.begin() + static_cast<std::ptrdiff_t>(d));
    strides.erase(strides.begin() + static_cast<std::ptrdiff_t>(d));
  }
  const std::int64_t count = CountElements(shape);
  const auto size = static_cast<std::size_t>(element_bytes);
  std::string dense(static_cast<std::size_t>(count) * size, '\0');
  std::vector<std::int64_t> index(shape.size(), 0);
  std::int64_t at = offset;
  for (std::int64_t i = 0; i < count; ++i) {
    std::memcpy(dense.data() + static_cast<std::size_t>(i) * size,
                storage.data() + static_cast<std::size_t>(at) * size, size);
    for (std::size_t d = shape.size(); d-- > 0;) {
      at += strides[d];
      if (++index[d] < shape[d]) break;
      at -= strides[d] * shape[d];
      index[d] = 0;
    }
  }
  return dense;
}

bool IsContiguous(const std::vector<std::int64_t>& shape,
                  const std::vector<std::int64_t>& strides) {
  std::int64_t expected = 1;
  for (std::size_t d = shape.size(); d-- > 0;) {
    if (shape[d] != 1 && strides[d] != expected) return false;
    expected *= shape[d];
  }
  return true;
}

// Elements from the start of the storage to the end of the tensor, or nothing if that overflows or
// a number is negative. Of an empty tensor none are read.
std::optional<std::int64_t> ElementsReached(std::int64_t offset,
                                            const std::vector<std::int64_t>& shape,
                                            const std::vector<std::int64_t>& strides) {
  if (offset < 0 || CountElements(shape) < 0) return std::nullopt;
  if (CountElements(shape) == 0) return 0;
  std::int64_t last = offset;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    std::int64_t step = 0;
    if (strides[d] < 0 || __builtin_mul_overflow(shape[d] - 1, strides[d], &step) ||
        __builtin_add_overflow(last, step, &last)) {
      return std::nullopt;
    }
  }
  std::int64_t reached = 0;
  if (__builtin_add_overflow(last, 1, &reached)) return std::nullopt;
  return reached;
}

// A storage with the type that its reference gives it.
struct TypedStorage {
  TorchStorage storage;
  std::optional<Dtype> dtype;  // nothing if it is untyped
};

class Reader {
 public:
  explicit Reader(const Pickle& pickle) : pickle_(pickle) {}

  const PickleValue& At(std::size_t index) const { return pickle_.values[index]; }
  const PickleValue& Root() const { return At(pickle_.root); }

  // ('storage', type, key, device, elements), in older files also a view, which is None.
  TypedStorage StorageOf(const PickleValue& persistent) const {
    const PickleValue& id = At(persistent.items[0]);
    if (id.kind != Kind::kSequence || id.items.size() < 5 || At(id.items[0]).bytes != "storage" ||
        At(id.items[1]).kind != Kind::kName || At(id.items[2]).kind != Kind::kBytes ||
        At(id.items[4]).kind != Kind::kInt) {
      Fail("a storage's reference is not ('storage', type, key, device, elements)");
    }
    if (id.items.size() > 5 && At(id.items[5]).kind != Kind::kNone) {
      Fail("a storage is a view of another: load and save the file with PyTorch 1.0 or later");
    }
    TypedStorage typed;
    const std::string_view name = At(id.items[1]).bytes;
    const auto* type = std::find_if(kTypes.begin(), kTypes.end(),
                                    [&](const TypeNames& names) { return name == names.storage; });
    if (type != kTypes.end()) {
      typed.dtype = type->type;
    } else if (name != kUntypedStorage) {
      Fail(fmt::format("'{}' is no storage", name));
    }
    typed.storage.key = At(id.items[2]).bytes;
    typed.storage.element_bytes = typed.dtype ? ElementBytes(*typed.dtype) : 1;
    const std::int64_t elements = At(id.items[4]).number;
    if (elements < 0 ||
        __builtin_mul_overflow(elements, typed.storage.element_bytes, &typed.storage.bytes)) {
      Fail(fmt::format("storage {} has {} elements", Quoted(typed.storage.key), elements));
    }
    return typed;
  }

  // The name that `value` calls, or nothing.
  std::string_view Called(const PickleValue& value) const {
    return value.kind == Kind::kCall ? At(value.items[0]).bytes : std::string_view();
  }
  const std::vector<std::size_t>& Arguments(const PickleValue& call) const {
    return At(call.items[1]).items;
  }

  bool IsTensor(const PickleValue& value) const {
    const std::string_view name = Called(value);
    return name == kTensorV1 || name == kTensorV2 || name == kTensorV3 || name == kParameter;
  }

  std::vector<std::int64_t> Integers(const PickleValue& value) const {
    const std::vector<std::size_t>* items = &value.items;
    if (Called(value) == kSize && Arguments(value).size() == 1) {
      items = &At(Arguments(value)[0]).items;
    } else if (value.kind != Kind::kSequence) {
      Fail("its shape or strides are no tuple");
    }
    if (items->size() > kMaxDimensions) Fail("it has more than 64 dimensions");
    std::vector<std::int64_t> integers;
    for (const std::size_t item : *items) {
      if (At(item).kind != Kind::kInt) Fail("its shape or strides are no integers");
      integers.push_back(At(item).number);
    }
    return integers;
  }

  // The dictionary that holds tensors: `dict` itself or one inside.
  const PickleValue& FindStateDict() const {
    const PickleValue* dict = &Root();
    for (int depth = 0; depth < kMaxNesting; ++depth) {
      if (dict->kind != Kind::kDict) break;
      if (HoldsTensors(*dict)) return *dict;
      const PickleValue* inner = nullptr;
      for (const std::string_view key : kInnerDicts) {
        if (inner == nullptr) inner = FindItem(*dict, key);
      }
      if (inner == nullptr) break;
      dict = inner;
    }
    Fail(
        "holds no tensors by name, neither at the top nor under state_dict, model, "
        "state_dict_backbone, backbone or net: save model.state_dict()");
  }

 private:
  bool HoldsTensors(const PickleValue& dict) const {
    for (std::size_t i = 1; i < dict.items.size(); i += 2) {
      if (IsTensor(At(dict.items[i]))) return true;
    }
    return false;
  }

  const PickleValue* FindItem(const PickleValue& dict, std::string_view key) const {
    for (std::size_t i = 0; i < dict.items.size(); i += 2) {
      const PickleValue& candidate = At(dict.items[i]);
      if (candidate.kind == Kind::kBytes && candidate.bytes == key) return &At(dict.items[i + 1]);
    }
    return nullptr;
  }

  const Pickle& pickle_;
};

class TensorBuilder {
 public:
  TensorBuilder(const Reader& reader, const std::map<std::string_view, std::string_view>& storages,
                std::shared_ptr<const void> owner)
      : reader_(reader), storages_(storages), owner_(std::move(owner)) {
    std::int64_t stored = 0;
    for (const auto& [key, bytes] : storages) stored += static_cast<std::int64_t>(bytes.size());
    copy_budget_ = std::max(kMinCopyBudget, kMaxCopyFactor * stored);
  }

  HostTensor Build(const PickleValue& call) {
    const PickleValue* value = &call;
    if (reader_.Called(*value) == kParameter) {
      if (reader_.Arguments(*value).empty()) Fail("is a parameter without a tensor");
      value = &reader_.At(reader_.Arguments(*value)[0]);
      if (!reader_.IsTensor(*value) || reader_.Called(*value) == kParameter) {
        Fail("is a parameter of what is no tensor");
      }
    }
    // (storage, offset, shape, strides, requires_grad, hooks[, dtype of V3]...)
    const std::vector<std::size_t>& arguments = reader_.Arguments(*value);
    const bool has_dtype = reader_.Called(*value) == kTensorV3;
    if (arguments.size() < (has_dtype ? 7 : 4)) Fail("lacks its storage, offset, shape or strides");
    const PickleValue& persistent = reader_.At(arguments[0]);
    const PickleValue& offset = reader_.At(arguments[1]);
    if (persistent.kind != Kind::kPersistent || offset.kind != Kind::kInt) {
      Fail("lacks its storage or offset");
    }
    const TypedStorage typed = reader_.StorageOf(persistent);
    const std::optional<Dtype> dtype = has_dtype ? DtypeOf(reader_.At(arguments[6])) : typed.dtype;
    if (!dtype) Fail("has a storage without a type");
    return View(typed.storage, *dtype, offset.number, reader_.Integers(reader_.At(arguments[2])),
                reader_.Integers(reader_.At(arguments[3])));
  }

 private:
  static std::optional<Dtype> DtypeOf(const PickleValue& name) {
    for (const TypeNames& type : kTypes) {
      if (name.kind == Kind::kName && name.bytes == type.dtype) return type.type;
    }
    return std::nullopt;
  }

  HostTensor View(const TorchStorage& storage, Dtype dtype, std::int64_t offset,
                  std::vector<std::int64_t> shape, const std::vector<std::int64_t>& strides) {
    const auto found = storages_.find(storage.key);
    if (found == storages_.end()) Fail(fmt::format("storage {} is not there", Quoted(storage.key)));
    const std::string_view bytes = found->second;
    const std::int64_t element_bytes = ElementBytes(dtype);
    const std::int64_t elements = static_cast<std::int64_t>(bytes.size()) / element_bytes;
    if (shape.size() != strides.size())
      Fail(fmt::format("{} dimensions have {} strides", shape.size(), strides.size()));
    const auto reached = ElementsReached(offset, shape, strides);
    const std::int64_t tensor_bytes = CountBytes(dtype, shape);
    if (!reached || *reached > elements || tensor_bytes < 0) {
      Fail(fmt::format("shape {}, strides {} and offset {} leave its storage of {} elements",
                       ShapeText(shape), ShapeText(strides), offset, elements));
    }
    if (tensor_bytes == 0) return {dtype, std::move(shape), {}, owner_};
    if (IsContiguous(shape, strides)) {
      const std::string_view view = bytes.substr(static_cast<std::size_t>(offset * element_bytes),
                                                 static_cast<std::size_t>(tensor_bytes));
      return {dtype, std::move(shape), view, owner_};
    }
    if (tensor_bytes > copy_budget_) {
      Fail(
          fmt::format("shape {} repeats its storage of {} elements so often that it is refused: "
                      "save its .contiguous() or .clone()",
                      ShapeText(shape), elements));
    }
    copy_budget_ -= tensor_bytes;
    std::string dense = CopyDense(bytes, element_bytes, offset, shape, strides);
    return HostTensor::FromBytes(dtype, std::move(shape), std::move(dense));
  }

  const Reader& reader_;
  const std::map<std::string_view, std::string_view>& storages_;
  std::shared_ptr<const void> owner_;
  std::int64_t copy_budget_ = 0;
};

}  // namespace

Pickle ReadTorchPickle(std::string_view bytes) {
  return ReadPickle(bytes, {AllowedNames(),
                            "torch.save of a whole module is not read, nor of an optimizer's or "
                            "a configuration's classes: save model.state_dict()"});
}

std::vector<TorchStorage> StoragesOf(const Pickle& pickle) {
  const Reader reader(pickle);
  std::map<std::string_view, TorchStorage> storages;
  for (const PickleValue& value : pickle.values) {
    if (value.kind != Kind::kPersistent) continue;
    const TorchStorage storage = reader.StorageOf(value).storage;
    const auto [found, added] = storages.emplace(storage.key, storage);
    if (!added && found->second.bytes != storage.bytes) {
      Fail(fmt::format("storage {} has {} bytes in one place and {} in another",
                       Quoted(storage.key), found->second.bytes, storage.bytes));
    }
  }
  std::vector<TorchStorage> list;
  list.reserve(storages.size());
  for (const auto& [key, storage] : storages) list.push_back(storage);
  return list;
}

HostTensors StateDictOf(const Pickle& pickle,
                        const std::map<std::string_view, std::string_view>& storages,
                        const std::shared_ptr<const void>& owner) {
  const Reader reader(pickle);
  const PickleValue& dict = reader.FindStateDict();
  std::vector<std::pair<std::string_view, const PickleValue*>> named;
  bool data_parallel = true;
  for (std::size_t i = 0; i < dict.items.size(); i += 2) {
    const PickleValue& key = reader.At(dict.items[i]);
    const PickleValue& value = reader.At(dict.items[i + 1]);
    if (!reader.IsTensor(value)) continue;
    if (key.kind != Kind::kBytes) Fail("a tensor's name is no text");
    named.emplace_back(key.bytes, &value);
    data_parallel = data_parallel && key.bytes.starts_with(kDataParallel);
  }
  TensorBuilder builder(reader, storages, owner);
  HostTensors tensors;
  for (auto [name, value] : named) {
    if (data_parallel) name.remove_prefix(kDataParallel.size());
    try {
      if (!tensors.Add(std::string(name), builder.Build(*value))) Fail("is there twice");
    } catch (const Error& error) {
      throw Error(error.code(), fmt::format("tensor {}: {}", Quoted(name), error.what()));
    }
  }
  return tensors;
}

}  // namespace fr
