#pragma once
// Numbers and small structs as the bytes that they are in memory. Little-endian machines only, like
// the formats that are made of them.

#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>

namespace fr {

// REQUIRES: the bytes are there.
template <typename Value>
Value LoadRaw(std::string_view bytes, std::size_t offset) {
  Value value;
  std::memcpy(&value, bytes.data() + offset, sizeof(value));
  return value;
}

template <typename Value>
void AppendRaw(std::string* bytes, Value value) {
  bytes->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

}  // namespace fr
