#pragma once
// The checksum of checkpoint files: XXH3, 64 bits (github.com/Cyan4973/xxHash).

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

}  // namespace fr
