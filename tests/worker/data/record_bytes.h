#pragma once
// Records made by hand, byte by byte as docs/formats.md has them.

#include <cstdint>
#include <string>
#include <vector>

namespace fr {

inline const std::string kRecordMagic = "\x0a\x23\xd7\xce";

template <typename Value>
std::string Bytes(Value value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

// One part of a record: `kind` 0 whole, 1 first, 2 middle, 3 last.
inline std::string PartBytes(const std::string& payload, std::uint32_t kind = 0) {
  return kRecordMagic + Bytes(kind << 29 | static_cast<std::uint32_t>(payload.size())) + payload +
         std::string((4 - payload.size() % 4) % 4, '\0');
}

// One label in the header, several behind it.
inline std::string PayloadBytes(const std::vector<float>& labels, std::uint64_t id,
                                const std::string& image) {
  const bool one = labels.size() == 1;
  std::string payload = Bytes(static_cast<std::uint32_t>(one ? 0 : labels.size())) +
                        Bytes(one ? labels[0] : 0.0F) + Bytes(id) + Bytes(std::uint64_t{0});
  for (const float label : labels) payload += one ? "" : Bytes(label);
  return payload + image;
}

}  // namespace fr
