#include "worker/weights/host_tensor.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include <fmt/format.h>

#include "common/base/error.h"

namespace fr {
namespace {

static_assert(std::endian::native == std::endian::little, "the files are little-endian");

float FromHalf(std::uint16_t bits) {
  const int exponent = (bits >> 10) & 0x1f;
  const int fraction = bits & 0x3ff;
  float value = 0;
  if (exponent == 0) {
    value = std::ldexp(static_cast<float>(fraction), -24);
  } else if (exponent == 0x1f) {
    value = fraction == 0 ? std::numeric_limits<float>::infinity()
                          : std::numeric_limits<float>::quiet_NaN();
  } else {
    value = std::ldexp(static_cast<float>(fraction + 0x400), exponent - 25);
  }
  return (bits & 0x8000) != 0 ? -value : value;
}

float FromBFloat16(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

template <typename Stored, typename Convert>
void ConvertAll(std::string_view bytes, std::span<float> floats, Convert convert) {
  for (std::size_t i = 0; i < floats.size(); ++i) {
    Stored stored;
    std::memcpy(&stored, bytes.data() + i * sizeof(Stored), sizeof(Stored));
    floats[i] = convert(stored);
  }
}

template <typename Stored>
void CastAll(std::string_view bytes, std::span<float> floats) {
  ConvertAll<Stored>(bytes, floats, [](Stored stored) { return static_cast<float>(stored); });
}

// Beyond float's range, double goes to infinity, as everywhere else in the field.
float FromDouble(double value) {
  if (std::abs(value) > std::numeric_limits<float>::max()) {
    return static_cast<float>(std::copysign(std::numeric_limits<double>::infinity(), value));
  }
  return static_cast<float>(value);
}

void ConvertToFloats(Dtype dtype, std::string_view bytes, std::span<float> floats) {
  switch (dtype) {
    case Dtype::kFloat32:
      return CastAll<float>(bytes, floats);
    case Dtype::kFloat64:
      return ConvertAll<double>(bytes, floats, FromDouble);
    case Dtype::kFloat16:
      return ConvertAll<std::uint16_t>(bytes, floats, FromHalf);
    case Dtype::kBFloat16:
      return ConvertAll<std::uint16_t>(bytes, floats, FromBFloat16);
    case Dtype::kInt8:
      return CastAll<std::int8_t>(bytes, floats);
    case Dtype::kInt16:
      return CastAll<std::int16_t>(bytes, floats);
    case Dtype::kInt32:
      return CastAll<std::int32_t>(bytes, floats);
    case Dtype::kInt64:
      return CastAll<std::int64_t>(bytes, floats);
    case Dtype::kUInt8:
      return CastAll<std::uint8_t>(bytes, floats);
    case Dtype::kUInt16:
      return CastAll<std::uint16_t>(bytes, floats);
    case Dtype::kUInt32:
      return CastAll<std::uint32_t>(bytes, floats);
    case Dtype::kUInt64:
      return CastAll<std::uint64_t>(bytes, floats);
    case Dtype::kBool:
      return ConvertAll<std::uint8_t>(
          bytes, floats, [](std::uint8_t stored) { return stored != 0 ? 1.0F : 0.0F; });
  }
}

}  // namespace

std::int64_t ElementBytes(Dtype dtype) {
  switch (dtype) {
    case Dtype::kInt8:
    case Dtype::kUInt8:
    case Dtype::kBool:
      return 1;
    case Dtype::kFloat16:
    case Dtype::kBFloat16:
    case Dtype::kInt16:
    case Dtype::kUInt16:
      return 2;
    case Dtype::kFloat32:
    case Dtype::kInt32:
    case Dtype::kUInt32:
      return 4;
    case Dtype::kFloat64:
    case Dtype::kInt64:
    case Dtype::kUInt64:
      return 8;
  }
  return 0;
}

const char* DtypeName(Dtype dtype) {
  static constexpr const char* kNames[] = {"float32", "float64", "float16", "bfloat16", "int8",
                                           "int16",   "int32",   "int64",   "uint8",    "uint16",
                                           "uint32",  "uint64",  "bool"};
  return kNames[static_cast<std::size_t>(dtype)];
}

std::int64_t CountElements(std::span<const std::int64_t> shape) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(count, size, &count)) return -1;
  }
  return count;
}

std::int64_t CountBytes(Dtype dtype, std::span<const std::int64_t> shape) {
  std::int64_t bytes = CountElements(shape);
  if (bytes < 0 || __builtin_mul_overflow(bytes, ElementBytes(dtype), &bytes)) return -1;
  return bytes;
}

std::string ShapeText(std::span<const std::int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

HostTensor HostTensor::FromFloats(std::vector<std::int64_t> shape, std::vector<float> values) {
  auto owner = std::make_shared<const std::vector<float>>(std::move(values));
  const std::string_view bytes(reinterpret_cast<const char*>(owner->data()),
                               owner->size() * sizeof(float));
  return {Dtype::kFloat32, std::move(shape), bytes, std::move(owner)};
}

HostTensor HostTensor::FromBytes(Dtype dtype, std::vector<std::int64_t> shape, std::string bytes) {
  auto owner = std::make_shared<const std::string>(std::move(bytes));
  const std::string_view view = *owner;
  return {dtype, std::move(shape), view, std::move(owner)};
}

HostTensor HostTensor::ToFloat32() const {
  const bool aligned = reinterpret_cast<std::uintptr_t>(bytes.data()) % alignof(float) == 0;
  if (dtype == Dtype::kFloat32 && aligned) return *this;
  std::vector<float> values(static_cast<std::size_t>(numel()));
  ConvertToFloats(dtype, bytes, values);
  return FromFloats(shape, std::move(values));
}

std::span<const float> HostTensor::floats() const {
  return {reinterpret_cast<const float*>(bytes.data()), bytes.size() / sizeof(float)};
}

HostTensor HostTensor::Reshaped(std::vector<std::int64_t> new_shape) const {
  if (CountElements(new_shape) != numel()) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("a tensor of shape {} cannot become {}",
                                                         ShapeText(shape), ShapeText(new_shape)));
  }
  HostTensor reshaped = *this;
  reshaped.shape = std::move(new_shape);
  return reshaped;
}

HostTensor HostTensor::Transposed() const {
  if (shape.size() != 2) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("a tensor of shape {} is no matrix to transpose", ShapeText(shape)));
  }
  const auto size = static_cast<std::size_t>(ElementBytes(dtype));
  const auto rows = static_cast<std::size_t>(shape[0]);
  const auto columns = static_cast<std::size_t>(shape[1]);
  std::string transposed(bytes.size(), '\0');
  for (std::size_t row = 0; row < rows; ++row) {
    for (std::size_t column = 0; column < columns; ++column) {
      std::memcpy(transposed.data() + (column * rows + row) * size,
                  bytes.data() + (row * columns + column) * size, size);
    }
  }
  return FromBytes(dtype, {shape[1], shape[0]}, std::move(transposed));
}

bool HostTensors::Add(std::string name, HostTensor tensor) {
  if (!index_.emplace(name, items_.size()).second) return false;
  items_.emplace_back(std::move(name), std::move(tensor));
  return true;
}

const HostTensor* HostTensors::Find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &items_[found->second].second;
}

}  // namespace fr
