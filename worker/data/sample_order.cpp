#include "worker/data/sample_order.h"

#include <algorithm>
#include <bit>

#include "common/base/random.h"

namespace fr {
namespace {

constexpr std::uint64_t kRounds = 4;

}  // namespace

SampleOrder::SampleOrder(std::uint64_t seed, std::int64_t epoch, std::int64_t count)
    : key_(MixKeys(seed, static_cast<std::uint64_t>(epoch))),
      count_(static_cast<std::uint64_t>(count)),
      half_bits_(std::max(1, (static_cast<int>(std::bit_width(count_ - 1)) + 1) / 2)) {}

std::int64_t SampleOrder::operator[](std::int64_t position) const {
  const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
  auto value = static_cast<std::uint64_t>(position);
  do {
    std::uint64_t left = value >> half_bits_;
    std::uint64_t right = value & mask;
    for (std::uint64_t round = 0; round < kRounds; ++round) {
      const std::uint64_t next = left ^ (MixKeys(key_, right, round) & mask);
      left = right;
      right = next;
    }
    value = left << half_bits_ | right;
  } while (value >= count_);
  return static_cast<std::int64_t>(value);
}

}  // namespace fr
