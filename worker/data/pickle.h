#pragma once
// Python pickles as data: what verification sets are (lists, tuples, bytes, text, numbers,
// booleans), and, where the caller says which names may occur, also the symbols that PyTorch's
// checkpoints are made of. Nothing is ever imported or called.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fr {

// A value of a pickle; `items` are indices into Pickle::values.
struct PickleValue {
  enum class Kind {
    kNone,
    kBool,
    kInt,
    kFloat,
    kBytes,     // or text
    kSequence,  // a list or tuple
    // Only where PickleNames allow them:
    kDict,        // items: key, value, key, value...
    kName,        // bytes: "module.name", one of the allowed
    kCall,        // items: the name that would be called, the tuple of its arguments
    kPersistent,  // items: the id of an object that is stored outside
  };
  Kind kind = Kind::kNone;
  std::int64_t number = 0;  // of kBool and kInt
  double real = 0;          // of kFloat
  std::string_view bytes;   // into the pickle itself
  std::vector<std::size_t> items;
};

struct Pickle {
  std::vector<PickleValue> values;
  std::size_t root = 0;
  std::size_t size = 0;  // bytes of the pickle; others may follow
};

// What a pickle may name ("collections.OrderedDict"), and the advice that follows the refusal of
// another name. The names must live as long as the Pickle.
struct PickleNames {
  std::span<const std::string_view> allowed;
  std::string_view advice;
};

// Reads protocols 0 to 5, as far as these values need them. Knows no opcode that imports, calls or
// builds anything: such a pickle, and a damaged one, throws Error(kDataLoss) with the byte at
// which it was found. The result refers to `bytes`.
Pickle ReadPickle(std::string_view bytes);

// Also dictionaries, the allowed names, and calls of these, which are kept as symbols, not made. A
// collections.OrderedDict() is a kDict; attributes that a pickle sets on it are left out.
Pickle ReadPickle(std::string_view bytes, const PickleNames& names);

// The pair (list of bytes, list of booleans), protocol 3.
std::string WritePickle(const std::vector<std::string>& images, const std::vector<bool>& flags);

}  // namespace fr
