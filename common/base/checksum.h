#pragma once
// The checksum of files and of pictures: XXH3 (github.com/Cyan4973/xxHash).

#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

namespace fr {

// Of bytes that arrive in parts.
class Checksum {
 public:
  Checksum();
  ~Checksum();
  void Update(const void* bytes, std::size_t size);
  std::uint64_t Value() const;  // of everything so far

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::uint64_t ChecksumOf(std::string_view bytes);

// XXH3 with 128 bits: of 42 million different pictures, two have the same with a probability below
// 1e-23.
struct Checksum128 {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  auto operator<=>(const Checksum128&) const = default;
};

Checksum128 Checksum128Of(std::string_view bytes);

}  // namespace fr
