#include "worker/model/npy.h"

#include <bit>

#include <fmt/format.h>

namespace fr {

static_assert(std::endian::native == std::endian::little, "'<f4' is little-endian");

std::string ToNpy(std::span<const float> values, std::int64_t rows, std::int64_t columns) {
  // Magic, version 1.0, length of the header; the header ends with a newline and, with what stands
  // before it, fills a multiple of 64 bytes.
  constexpr std::size_t kBefore = 10;
  constexpr std::size_t kAlignment = 64;
  std::string header =
      fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", rows, columns);
  const std::size_t total = (kBefore + header.size() + kAlignment) / kAlignment * kAlignment;
  header.append(total - kBefore - header.size() - 1, ' ');
  header += '\n';
  std::string bytes("\x93NUMPY\x01\x00", 8);
  bytes += static_cast<char>(header.size() & 0xFFU);
  bytes += static_cast<char>(header.size() >> 8U);
  bytes += header;
  bytes.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
  return bytes;
}

}  // namespace fr
