#pragma once
// Going through the bytes of a file that may be damaged.

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>

#include <fmt/format.h>

#include "common/base/error.h"

namespace fr {

// Never leaves `bytes`; what is not there is an Error(kDataLoss) that names `file`, the byte and
// what was expected there.
class ByteCursor {
 public:
  ByteCursor(std::string_view bytes, std::string file, std::size_t at = 0)
      : bytes_(bytes), file_(std::move(file)), at_(at) {}

  std::size_t at() const { return at_; }
  std::size_t left() const { return bytes_.size() - at_; }

  [[noreturn]] void Fail(const std::string& what) const {
    throw Error(ErrorCode::kDataLoss, fmt::format("{}: byte {}: {}", file_, at_, what));
  }

  std::string_view Take(std::uint64_t count, std::string_view what) {
    if (count > left()) {
      Fail(fmt::format("{} of {} bytes is expected, {} are left", what, count, left()));
    }
    const std::string_view taken = bytes_.substr(at_, count);
    at_ += count;
    return taken;
  }

  // A little-endian number.
  template <typename Number>
  Number Take(std::string_view what) {
    static_assert(std::is_arithmetic_v<Number>);
    Number number;
    std::memcpy(&number, Take(sizeof(Number), what).data(), sizeof(Number));
    return number;
  }

 private:
  std::string_view bytes_;
  std::string file_;
  std::size_t at_ = 0;
};

}  // namespace fr
