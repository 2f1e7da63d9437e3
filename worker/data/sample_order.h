#pragma once
// A random order that needs no memory.

#include <cstdint>

namespace fr {

// A random order of [0, count), computed where it is asked for: no table of 42 million entries, and
// any position costs the same. A four-round Feistel network over the next even power of two, walked
// until it lands inside (format-preserving encryption by cycle walking).
class SampleOrder {
 public:
  // REQUIRES: count > 0.
  SampleOrder(std::uint64_t seed, std::int64_t epoch, std::int64_t count);

  // The sample at `position` of [0, count): a bijection.
  std::int64_t operator[](std::int64_t position) const;

 private:
  std::uint64_t key_;
  std::uint64_t count_;
  int half_bits_;
};

}  // namespace fr
