#include "worker/weights/host_tensor.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include <gtest/gtest.h>

#include "common/base/error.h"

namespace fr {
namespace {

template <typename Number>
HostTensor Make(Dtype dtype, const std::vector<Number>& numbers) {
  return HostTensor::FromBytes(
      dtype, {static_cast<std::int64_t>(numbers.size())},
      std::string(reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(Number)));
}

std::vector<float> Floats(const HostTensor& tensor) {
  const HostTensor floats = tensor.ToFloat32();
  return {floats.floats().begin(), floats.floats().end()};
}

TEST(HostTensor, EveryTypeBecomesFloat) {
  EXPECT_EQ(Floats(Make<double>(Dtype::kFloat64, {0.1, -1e300})),
            (std::vector<float>{0.1F, -std::numeric_limits<float>::infinity()}));
  EXPECT_EQ(Floats(Make<std::int8_t>(Dtype::kInt8, {-128, 127})), (std::vector<float>{-128, 127}));
  EXPECT_EQ(Floats(Make<std::int16_t>(Dtype::kInt16, {-3})), (std::vector<float>{-3}));
  EXPECT_EQ(Floats(Make<std::int32_t>(Dtype::kInt32, {-3})), (std::vector<float>{-3}));
  EXPECT_EQ(Floats(Make<std::int64_t>(Dtype::kInt64, {-3})), (std::vector<float>{-3}));
  EXPECT_EQ(Floats(Make<std::uint8_t>(Dtype::kUInt8, {255})), (std::vector<float>{255}));
  EXPECT_EQ(Floats(Make<std::uint16_t>(Dtype::kUInt16, {65535})), (std::vector<float>{65535}));
  EXPECT_EQ(Floats(Make<std::uint64_t>(Dtype::kUInt64, {1ULL << 63})),
            (std::vector<float>{0x1p63F}));
  EXPECT_EQ(Floats(Make<std::uint8_t>(Dtype::kBool, {0, 1, 2})), (std::vector<float>{0, 1, 1}));
}

// Every float16 there is, against the formula of its definition.
TEST(HostTensor, EveryHalfIsExact) {
  std::vector<std::uint16_t> all(1 << 16);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
  const std::vector<float> floats = Floats(Make(Dtype::kFloat16, all));
  for (std::size_t i = 0; i < all.size(); ++i) {
    const double sign = (i & 0x8000) != 0 ? -1 : 1;
    const int exponent = static_cast<int>(i >> 10 & 31);
    const double fraction = static_cast<double>(i & 1023) / 1024;
    if (exponent == 31) {
      ASSERT_EQ(std::isnan(floats[i]), fraction != 0);
      ASSERT_EQ(std::isinf(floats[i]), fraction == 0);
      ASSERT_TRUE(fraction != 0 || std::signbit(floats[i]) == (sign < 0));
    } else {
      const double value = exponent == 0 ? fraction * std::pow(2.0, -14)
                                         : (1 + fraction) * std::pow(2.0, exponent - 15);
      ASSERT_EQ(floats[i], sign * value) << i;
      ASSERT_EQ(std::signbit(floats[i]), sign < 0);
    }
  }
  EXPECT_EQ(Floats(Make<std::uint16_t>(Dtype::kBFloat16, {0x3f80, 0xc000})),
            (std::vector<float>{1, -2}));
}

TEST(HostTensor, UnalignedFloatsAreCopied) {
  const float value = 1.5F;
  std::string bytes(1 + sizeof(value), '\0');
  std::memcpy(bytes.data() + 1, &value, sizeof(value));
  const HostTensor tensor = {Dtype::kFloat32, {1}, std::string_view(bytes).substr(1), nullptr};
  const HostTensor copy = tensor.ToFloat32();
  EXPECT_NE(copy.bytes.data(), tensor.bytes.data());
  EXPECT_EQ(copy.floats()[0], value);
  EXPECT_EQ(copy.ToFloat32().bytes.data(), copy.bytes.data());  // and not twice
}

TEST(HostTensor, ShapesThatOverflowHaveNoSize) {
  const std::vector<std::int64_t> huge = {1LL << 32, 1LL << 32};
  const std::vector<std::int64_t> negative = {2, -1};
  EXPECT_EQ(CountElements(huge), -1);
  EXPECT_EQ(CountElements(negative), -1);
  EXPECT_EQ(CountBytes(Dtype::kFloat64, std::vector<std::int64_t>{1LL << 61}), -1);
  EXPECT_EQ(CountElements({}), 1);
}

TEST(HostTensor, ReshapesAndTransposes) {
  const HostTensor tensor = HostTensor::FromFloats({2, 3}, {0, 1, 2, 3, 4, 5});
  EXPECT_EQ(Floats(tensor.Transposed()), (std::vector<float>{0, 3, 1, 4, 2, 5}));
  EXPECT_EQ(tensor.Transposed().shape, (std::vector<std::int64_t>{3, 2}));
  EXPECT_THROW(tensor.Reshaped({4}), Error);
  EXPECT_THROW(tensor.Reshaped({6}).Transposed(), Error);
}

TEST(HostTensors, KeepFileOrderAndRefuseDuplicates) {
  HostTensors tensors;
  EXPECT_TRUE(tensors.Add("b", {}));
  EXPECT_TRUE(tensors.Add("a", {}));
  EXPECT_FALSE(tensors.Add("b", {}));
  EXPECT_EQ(tensors.begin()->first, "b");
  EXPECT_EQ(tensors.Find("c"), nullptr);
}

}  // namespace
}  // namespace fr
