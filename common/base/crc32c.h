#pragma once
// CRC-32C (Castagnoli; RFC 3720, appendix B.4), for file formats that ask for it. Our own files
// have the faster XXH3 of checksum.h.

#include <cstdint>
#include <string_view>

namespace fr {

std::uint32_t Crc32c(std::string_view bytes);

}  // namespace fr
