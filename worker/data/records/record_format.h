#pragma once
// The bytes of MXNet's RecordIO, for those that read and write it (dmlc-core's recordio.h).

#include <cstddef>
#include <cstdint>

namespace fr::record_format {

// Every part of a record begins with it, at a multiple of four bytes of the file.
inline constexpr std::uint32_t kMagic = 0xced7230a;
// The part's length is the lower 29 bits of the second word, its kind the upper three.
inline constexpr int kLengthBits = 29;
inline constexpr std::uint32_t kMaxPartBytes = (1U << kLengthBits) - 1;
inline constexpr std::size_t kPartHeaderBytes = 8;
enum PartKind : std::uint32_t { kWhole = 0, kFirst = 1, kMiddle = 2, kLast = 3 };

// What precedes the image in a record: IRHeader of mxnet/recordio.py, packed.
inline constexpr std::size_t kImageHeaderBytes = 24;
inline constexpr std::size_t kFlagAt = 0;   // uint32: labels behind the header; 0: one, in it
inline constexpr std::size_t kLabelAt = 4;  // float32
inline constexpr std::size_t kIdAt = 8;     // uint64, and 8 unused bytes

// `size` up to a multiple of four, as parts are padded with zeros.
constexpr std::uint64_t Padded(std::uint64_t size) { return (size + 3) / 4 * 4; }

}  // namespace fr::record_format
