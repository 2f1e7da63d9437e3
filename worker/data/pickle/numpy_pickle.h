#pragma once
// numpy's arrays and scalars in pickles, of the two kinds that verification sets have: uint8 and
// bool, in one dimension.

#include <cstddef>
#include <optional>
#include <string_view>

#include "worker/data/pickle/pickle.h"

namespace fr {

// What a pickle with such arrays and scalars names, by numpy 1 and 2, and how bytes are named
// (kNamesOfBytes).
extern const PickleNames kNumpyNames;

struct NumpyBytes {
  bool is_bool = false;  // of bool, one byte each; else of uint8
  bool is_scalar = false;
  std::string_view bytes;  // as long as those of the pickle
};

// Nothing if value `index` is neither an array of one dimension nor a scalar of these types, or
// says that it has more elements than it has.
std::optional<NumpyBytes> ReadNumpy(const Pickle& pickle, std::size_t index);

}  // namespace fr
