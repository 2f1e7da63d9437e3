#include "worker/data/pickle/numpy_pickle.h"

#include <algorithm>
#include <iterator>
#include <vector>

namespace fr {
namespace {

using Kind = PickleValue::Kind;

constexpr std::string_view kNames[] = {
    "_codecs.encode",
    "__builtin__.bytes",
    "builtins.bytes",
    "__builtin__.bytearray",
    "builtins.bytearray",
    "numpy.dtype",
    "numpy.ndarray",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.core.numeric._frombuffer",
    "numpy._core.numeric._frombuffer",
};

class Reader {
 public:
  explicit Reader(const Pickle& pickle) : pickle_(pickle) {}

  std::optional<NumpyBytes> Read(std::size_t index) const {
    const PickleValue& call = pickle_.values[index];
    if (call.kind != Kind::kCall) return std::nullopt;
    const std::string_view name = pickle_.values[call.items[0]].bytes;
    const std::vector<std::size_t>& arguments = pickle_.values[call.items[1]].items;
    if (name.ends_with(".scalar") && arguments.size() == 2) {
      return Elements(arguments[0], arguments[1], 1, true);
    }
    // (buffer, dtype, shape, order), from protocol 5 on.
    if (name.ends_with("._frombuffer") && arguments.size() == 4) {
      return Elements(arguments[1], arguments[0], Length(arguments[2]), false);
    }
    // An empty array, whose state is (version, shape, dtype, in Fortran's order, bytes).
    if (name.ends_with("._reconstruct") && call.items.size() == 3) {
      const PickleValue& state = pickle_.values[call.items[2]];
      if (state.kind != Kind::kSequence || state.items.size() != 5) return std::nullopt;
      return Elements(state.items[2], state.items[4], Length(state.items[1]), false);
    }
    return std::nullopt;
  }

 private:
  // Of a shape of one dimension; -1 for others.
  std::int64_t Length(std::size_t index) const {
    const PickleValue& shape = pickle_.values[index];
    if (shape.kind != Kind::kSequence || shape.items.size() != 1) return -1;
    const PickleValue& length = pickle_.values[shape.items[0]];
    return length.kind == Kind::kInt ? length.number : -1;
  }

  // "b1" of numpy.dtype('b1', False, True).
  std::string_view TypeName(std::size_t index) const {
    const PickleValue& dtype = pickle_.values[index];
    if (dtype.kind != Kind::kCall || pickle_.values[dtype.items[0]].bytes != "numpy.dtype")
      return {};
    const std::vector<std::size_t>& arguments = pickle_.values[dtype.items[1]].items;
    return arguments.empty() ? std::string_view() : pickle_.values[arguments[0]].bytes;
  }

  std::optional<NumpyBytes> Elements(std::size_t dtype, std::size_t content, std::int64_t count,
                                     bool is_scalar) const {
    const std::string_view type = TypeName(dtype);
    const PickleValue& bytes = pickle_.values[content];
    if ((type != "b1" && type != "u1") || bytes.kind != Kind::kBytes ||
        std::ssize(bytes.bytes) != count) {
      return std::nullopt;
    }
    return NumpyBytes{type == "b1", is_scalar, bytes.bytes};
  }

  const Pickle& pickle_;
};

}  // namespace

const PickleNames kNumpyNames = {kNames, "", true};

std::optional<NumpyBytes> ReadNumpy(const Pickle& pickle, std::size_t index) {
  return Reader(pickle).Read(index);
}

}  // namespace fr
