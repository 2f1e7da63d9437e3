#pragma once
// The few Python pickles that verification sets are: lists, tuples, bytes, text, integers,
// booleans.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fr {

// A value of a pickle; `items` are indices into Pickle::values.
struct PickleValue {
  enum class Kind { kNone, kBool, kInt, kBytes, kSequence };
  Kind kind = Kind::kNone;
  std::int64_t number = 0;         // of kBool and kInt
  std::string_view bytes;          // into the pickle itself
  std::vector<std::size_t> items;  // of a list or tuple
};

struct Pickle {
  std::vector<PickleValue> values;
  std::size_t root = 0;
};

// Reads protocols 0 to 5, as far as these values need them. Knows no opcode that imports, calls or
// builds anything: such a pickle, and a damaged one, throws Error(kDataLoss) with the byte at
// which it was found. The result refers to `bytes`.
Pickle ReadPickle(std::string_view bytes);

// The pair (list of bytes, list of booleans), protocol 3.
std::string WritePickle(const std::vector<std::string>& images, const std::vector<bool>& flags);

}  // namespace fr
