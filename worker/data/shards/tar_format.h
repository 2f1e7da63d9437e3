#pragma once
// The fields of a tar header, for those that read and write it (POSIX.1-2001, pax; GNU's tar.h).

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace fr::tar_format {

inline constexpr std::size_t kBlockBytes = 512;

struct Field {
  std::size_t offset = 0;
  std::size_t size = 0;

  std::string_view Of(std::string_view header) const { return header.substr(offset, size); }
};

inline constexpr Field kName = {0, 100};
inline constexpr Field kMode = {100, 8};
inline constexpr Field kOwner = {108, 8};
inline constexpr Field kGroup = {116, 8};
inline constexpr Field kSize = {124, 12};
inline constexpr Field kTime = {136, 12};
inline constexpr Field kChecksum = {148, 8};
inline constexpr std::size_t kKindAt = 156;
inline constexpr Field kMagic = {257, 8};
inline constexpr Field kPrefix = {345, 155};

inline constexpr std::string_view kPosixMagic = {"ustar\0", 6};  // GNU's goes on with blanks

// The sum of a header's bytes, its own field counted as blanks.
inline std::uint64_t ChecksumOfHeader(std::string_view header) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < kBlockBytes; ++i) {
    const bool own = i >= kChecksum.offset && i < kChecksum.offset + kChecksum.size;
    sum += own ? ' ' : static_cast<unsigned char>(header[i]);
  }
  return sum;
}

// `size` up to a whole number of blocks.
constexpr std::uint64_t Padded(std::uint64_t size) {
  return (size + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
}

}  // namespace fr::tar_format
