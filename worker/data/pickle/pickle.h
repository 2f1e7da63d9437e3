#pragma once
// Python pickles as data: lists, tuples, bytes, text, numbers, booleans, dictionaries; and, where
// the caller says which names may occur, the symbols of which checkpoints and numpy's arrays are
// made. Nothing is ever imported or called.

#include <cstdint>
#include <deque>
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
    kBytes,       // or text
    kSequence,    // a list or tuple
    kDict,        // items: key, value, key, value...
    kPersistent,  // items: the id of an object that is stored outside
    // Only where PickleNames allow them:
    kName,  // bytes: "module.name", one of the allowed
    // items: the name that would be called, the tuple of its arguments; and, where the pickle would
    // set it on the result, its state
    kCall,
  };
  Kind kind = Kind::kNone;
  std::int64_t number = 0;  // of kBool and kInt
  double real = 0;          // of kFloat
  std::string_view bytes;   // into the pickle itself, or into Pickle::decoded
  std::vector<std::size_t> items;
};

struct Pickle {
  std::vector<PickleValue> values;
  std::size_t root = 0;
  std::size_t size = 0;  // bytes of the pickle; others may follow
  // Bytes that the pickle holds in another form. A deque: moving it does not move them.
  std::deque<std::string> decoded;

  Pickle() = default;
  Pickle(Pickle&&) = default;  // a copy's `values` would refer to the original's `decoded`
  Pickle& operator=(Pickle&&) = default;
};

// What a pickle may name ("collections.OrderedDict"), the advice that follows the refusal of
// another name, and whether a state may be set on what a call would make. The names must live as
// long as the Pickle.
struct PickleNames {
  std::span<const std::string_view> allowed;
  std::string_view advice;
  bool has_states = false;
};

// Calls that pickles of bytes hold where their protocol knows no bytes: allowed, they are not kept
// as kCall but as the bytes that they stand for. _codecs.encode(text, 'latin1') is how Python 3
// writes bytes in protocols 0 to 2.
inline constexpr std::string_view kNamesOfBytes[] = {"_codecs.encode", "__builtin__.bytes",
                                                     "builtins.bytes", "__builtin__.bytearray",
                                                     "builtins.bytearray"};

// Reads protocols 0 to 5, as far as these values need them. Calls of allowed names are kept as
// symbols, not made; a collections.OrderedDict() is a kDict, and attributes that a pickle sets on
// it are left out. A pickle that would import, call or build anything else, and a damaged one,
// throws Error(kDataLoss) with the byte at which it was found. The result refers to `bytes`.
Pickle ReadPickle(std::string_view bytes, const PickleNames& names = {});

}  // namespace fr
