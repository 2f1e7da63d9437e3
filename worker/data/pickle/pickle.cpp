#include "worker/data/pickle/pickle.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <iterator>
#include <optional>
#include <unordered_map>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/quoted.h"
#include "worker/data/pickle/pickle_text.h"

namespace fr {
namespace {

using Kind = PickleValue::Kind;

constexpr std::string_view kOrderedDict = "collections.OrderedDict";

// Values, memory slots and the height of the stack: a small file can ask for many.
constexpr std::size_t kMaxValues = 1U << 22;

// A stack machine, as Python's pickle module documents it (Lib/pickletools.py).
class Unpickler {
 public:
  Unpickler(std::string_view bytes, const PickleNames& names) : bytes_(bytes), names_(names) {}

  Pickle Run() {
    while (true) {
      opcode_at_ = at_;
      const auto opcode = static_cast<unsigned char>(Take(1)[0]);
      if (opcode == '.') break;
      Execute(opcode);
    }
    if (stack_.size() != 1 || !marks_.empty()) Fail("ends with an unfinished value");
    pickle_.root = stack_.back();
    pickle_.size = at_;
    return std::move(pickle_);
  }

 private:
  [[noreturn]] void Fail(const std::string& what) const {
    throw Error(ErrorCode::kDataLoss, fmt::format("byte {} of the pickle: {}", opcode_at_, what));
  }

  std::string_view Take(std::uint64_t count) {
    if (count > bytes_.size() - at_) Fail("it is truncated");
    const std::string_view taken = bytes_.substr(at_, count);
    at_ += count;
    return taken;
  }

  // A little-endian unsigned number of `size` bytes.
  std::uint64_t TakeNumber(int size) {
    std::uint64_t number = 0;
    std::memcpy(&number, Take(static_cast<std::uint64_t>(size)).data(),
                static_cast<std::size_t>(size));
    return number;
  }

  std::string_view TakeLine() {
    const std::size_t end = bytes_.find('\n', at_);
    if (end == std::string_view::npos) Fail("it is truncated");
    const std::string_view line = Take(end - at_);
    Take(1);
    return line;
  }

  void PushIndex(std::size_t value) {
    if (stack_.size() == kMaxValues) Fail(fmt::format("more than {} values", kMaxValues));
    stack_.push_back(value);
  }

  void Push(PickleValue value) {
    if (pickle_.values.size() == kMaxValues) Fail(fmt::format("more than {} values", kMaxValues));
    pickle_.values.push_back(std::move(value));
    PushIndex(pickle_.values.size() - 1);
  }
  void PushItems(Kind kind, std::vector<std::size_t> items) {
    Push({kind, 0, 0, {}, std::move(items)});
  }
  void PushNumber(Kind kind, std::int64_t number) { Push({kind, number, 0, {}, {}}); }
  void PushBytes(std::string_view bytes) { Push({Kind::kBytes, 0, 0, bytes, {}}); }
  void PushTakenBytes(int length_size) { PushBytes(Take(TakeNumber(length_size))); }

  void PushDecoded(std::optional<std::string> bytes) {
    if (!bytes) Fail("holds text that is none");
    // A byte of it becomes two of UTF-8 at most, and these one of Latin-1. But text may have been
    // remembered, and using it again cost a few bytes.
    decoded_bytes_ += bytes->size();
    if (decoded_bytes_ > 3 * bytes_.size()) Fail("would decode to more bytes than it has");
    PushBytes(pickle_.decoded.emplace_back(std::move(*bytes)));
  }

  // A big-endian double.
  void PushFloat() {
    std::uint64_t bits = 0;
    for (const char byte : Take(8)) bits = bits << 8 | static_cast<unsigned char>(byte);
    Push({Kind::kFloat, 0, std::bit_cast<double>(bits), {}, {}});
  }

  // Values above `base`, taken off the stack.
  std::vector<std::size_t> PopFrom(std::size_t base) {
    if (base > stack_.size()) Fail("takes more values than there are");
    std::vector<std::size_t> items(stack_.begin() + static_cast<std::ptrdiff_t>(base),
                                   stack_.end());
    stack_.resize(base);
    return items;
  }

  std::vector<std::size_t> PopToMark() {
    if (marks_.empty()) Fail("there is no mark to go back to");
    const std::size_t base = marks_.back();
    marks_.pop_back();
    return PopFrom(base);
  }

  void PushTuple(std::size_t size) {
    if (size > stack_.size()) Fail("takes more values than there are");
    PushItems(Kind::kSequence, PopFrom(stack_.size() - size));
  }

  std::size_t Pop() { return PopFrom(stack_.empty() ? 1 : stack_.size() - 1)[0]; }

  // The value on top, above the last mark.
  PickleValue& Top() {
    if (stack_.empty() || (!marks_.empty() && marks_.back() == stack_.size())) {
      Fail("takes more values than there are");
    }
    return pickle_.values[stack_.back()];
  }

  void AppendToList(const std::vector<std::size_t>& items) {
    PickleValue& list = Top();
    if (list.kind != Kind::kSequence) Fail("appends to what is no list");
    list.items.insert(list.items.end(), items.begin(), items.end());
  }

  void AddToDict(const std::vector<std::size_t>& items) {
    PickleValue& dict = Top();
    if (dict.kind != Kind::kDict) Fail("sets an item of what is no dictionary");
    if (items.size() % 2 != 0) Fail("has a key without a value");
    dict.items.insert(dict.items.end(), items.begin(), items.end());
  }

  void PushDict(std::vector<std::size_t> items) {
    if (items.size() % 2 != 0) Fail("has a key without a value");
    PushItems(Kind::kDict, std::move(items));
  }

  void PushName(std::string_view module, std::string_view name) {
    const std::string full = fmt::format("{}.{}", module, name);
    for (const std::string_view allowed : names_.allowed) {
      if (allowed == full) return Push({Kind::kName, 0, 0, allowed, {}});
    }
    Fail(fmt::format("names {}, which is not executed{}{}", Quoted(full),
                     names_.advice.empty() ? "" : ": ", names_.advice));
  }

  void PushNameOfStack() {
    const PickleValue& name = pickle_.values[Pop()];
    const PickleValue& module = pickle_.values[Pop()];
    if (name.kind != Kind::kBytes || module.kind != Kind::kBytes) Fail("a name is no text");
    PushName(module.bytes, name.bytes);
  }

  void PushCall() {
    const std::size_t arguments = Pop();
    const std::size_t callee = Pop();
    if (pickle_.values[callee].kind != Kind::kName ||
        pickle_.values[arguments].kind != Kind::kSequence) {
      Fail("calls what is no name, or with what is no tuple");
    }
    const std::string_view name = pickle_.values[callee].bytes;
    if (name == kOrderedDict) return PushOrderedDict(arguments);
    const auto* const bytes_end = std::end(kNamesOfBytes);
    if (std::find(std::begin(kNamesOfBytes), bytes_end, name) != bytes_end) {
      return PushCalledBytes(name, pickle_.values[arguments].items);
    }
    PushItems(Kind::kCall, {callee, arguments});
  }

  // Without arguments, no bytes; of a bytearray, also the bytes themselves; of Latin-1, text.
  void PushCalledBytes(std::string_view name, const std::vector<std::size_t>& arguments) {
    const auto argument = [&](std::size_t i) -> const PickleValue& {
      const PickleValue& value = pickle_.values[arguments[i]];
      if (value.kind != Kind::kBytes) Fail("makes bytes of what is no text");
      return value;
    };
    const bool is_encode = name == kNamesOfBytes[0];
    const bool is_array = name.ends_with("bytearray");
    if (arguments.empty() && !is_encode) return PushBytes(std::string_view());
    if (arguments.size() == 1 && is_array) return PushBytes(argument(0).bytes);
    if (arguments.size() != 2 || !(is_encode || is_array)) Fail("makes bytes in an unknown way");
    const std::string_view encoding = argument(1).bytes;
    if (encoding != "latin1" && encoding != "latin-1") Fail("makes bytes that are not Latin-1");
    PushDecoded(EncodeLatin1(argument(0).bytes));
  }

  // OrderedDict(), or of Python 2 OrderedDict([[key, value], ...]).
  void PushOrderedDict(std::size_t arguments) {
    std::vector<std::size_t> items;
    for (const std::size_t pairs : pickle_.values[arguments].items) {
      for (const std::size_t pair : pickle_.values[pairs].items) {
        const PickleValue& both = pickle_.values[pair];
        if (both.kind != Kind::kSequence || both.items.size() != 2) Fail("OrderedDict of no pairs");
        // The pairs may have been remembered, and the call cost four bytes.
        if (++copied_pairs_ > kMaxValues) Fail(fmt::format("more than {} values", kMaxValues));
        items.insert(items.end(), both.items.begin(), both.items.end());
      }
    }
    PushDict(std::move(items));
  }

  // Of a call, the state is kept; what Python sets on an OrderedDict is left out.
  void PushState() {
    const std::size_t state = Pop();
    PickleValue& object = Top();
    if (object.kind == Kind::kDict) return;
    if (!names_.has_states || object.kind != Kind::kCall || object.items.size() != 2) {
      Fail("sets attributes of what is no OrderedDict");
    }
    object.items.push_back(state);
  }

  void Memoize(std::uint64_t key) {
    if (memo_.size() == kMaxValues) Fail(fmt::format("remembers more than {} values", kMaxValues));
    if (stack_.empty()) Fail("there is nothing to remember");
    memo_[key] = stack_.back();
  }

  void Recall(std::uint64_t key) {
    const auto found = memo_.find(key);
    if (found == memo_.end()) Fail("recalls what was never remembered");
    PushIndex(found->second);
  }

  std::int64_t ParseInteger(std::string_view text) const {
    std::int64_t number = 0;
    if (!text.empty() && text.back() == 'L') text.remove_suffix(1);
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size()) Fail("is no integer");
    return number;
  }

  void PushLong() {
    const auto size = static_cast<int>(TakeNumber(1));
    if (size > 8) Fail("an integer of more than 64 bits");
    std::uint64_t number = TakeNumber(size);
    if (size > 0 && size < 8 && (number >> (8 * size - 1)) != 0) number |= ~0ULL << (8 * size);
    PushNumber(Kind::kInt, static_cast<std::int64_t>(number));
  }

  void PushIntegerLine() {
    const std::string_view line = TakeLine();
    // Protocol 0 writes booleans as 00 and 01.
    if (line == "00" || line == "01") {
      PushNumber(Kind::kBool, line[1] - '0');
    } else {
      PushNumber(Kind::kInt, ParseInteger(line));
    }
  }

  void Execute(unsigned char opcode) {
    switch (opcode) {
      case 0x80:  // PROTO
        if (TakeNumber(1) > 5) Fail("a protocol after 5");
        return;
      case 0x95:  // FRAME
        TakeNumber(8);
        return;
      case '(':
        if (marks_.size() == kMaxValues) Fail(fmt::format("more than {} marks", kMaxValues));
        marks_.push_back(stack_.size());
        return;
      case ')':
      case ']':
        PushItems(Kind::kSequence, {});
        return;
      case 't':
      case 'l':
        PushItems(Kind::kSequence, PopToMark());
        return;
      case 0x85:
      case 0x86:
      case 0x87:  // TUPLE1, 2, 3
        PushTuple(opcode - 0x84U);
        return;
      case 'a':
        AppendToList({Pop()});
        return;
      case 'e':
        AppendToList(PopToMark());
        return;
      default:
        ExecuteScalar(opcode);
    }
  }

  void ExecuteScalar(unsigned char opcode) {
    switch (opcode) {
      case 'N':
        Push({});
        return;
      case 0x88:
      case 0x89:  // NEWTRUE, NEWFALSE
        PushNumber(Kind::kBool, opcode == 0x88 ? 1 : 0);
        return;
      case 'I':
        PushIntegerLine();
        return;
      case 'L':
        PushNumber(Kind::kInt, ParseInteger(TakeLine()));
        return;
      case 'J':
        PushNumber(Kind::kInt, static_cast<std::int32_t>(TakeNumber(4)));
        return;
      case 'G':
        PushFloat();
        return;
      case 'K':
        PushNumber(Kind::kInt, static_cast<std::int64_t>(TakeNumber(1)));
        return;
      case 'M':
        PushNumber(Kind::kInt, static_cast<std::int64_t>(TakeNumber(2)));
        return;
      case 0x8a:  // LONG1
        PushLong();
        return;
      case 'S':
        PushDecoded(UnescapeString(TakeLine()));
        return;
      case 'V':
        PushDecoded(DecodeRawUnicodeEscape(TakeLine()));
        return;
      case 'U':
      case 'C':
      case 0x8c:  // strings, bytes and text whose length has 1 byte
        PushTakenBytes(1);
        return;
      case 'T':
      case 'B':
      case 'X':  // ... 4 bytes
        PushTakenBytes(4);
        return;
      case 0x8d:
      case 0x8e:
      case 0x96:  // ... 8 bytes (0x96: bytearray)
        PushTakenBytes(8);
        return;
      default:
        ExecuteMemo(opcode);
    }
  }

  void ExecuteMemo(unsigned char opcode) {
    switch (opcode) {
      case 'p':
        return Memoize(static_cast<std::uint64_t>(ParseInteger(TakeLine())));
      case 'q':
        return Memoize(TakeNumber(1));
      case 'r':
        return Memoize(TakeNumber(4));
      case 0x94:  // MEMOIZE
        return Memoize(memo_.size());
      case 'g':
        return Recall(static_cast<std::uint64_t>(ParseInteger(TakeLine())));
      case 'h':
        return Recall(TakeNumber(1));
      case 'j':
        return Recall(TakeNumber(4));
      default:
        ExecuteSymbol(opcode);
    }
  }

  void ExecuteSymbol(unsigned char opcode) {
    switch (opcode) {
      case '}':
        return PushDict({});
      case 'd':
        return PushDict(PopToMark());
      case 's':
        if (stack_.size() < 2) Fail("takes more values than there are");
        return AddToDict(PopFrom(stack_.size() - 2));
      case 'u':
        return AddToDict(PopToMark());
      case 'c': {
        const std::string_view module = TakeLine();
        return PushName(module, TakeLine());
      }
      case 0x93:  // STACK_GLOBAL
        return PushNameOfStack();
      case 'Q':  // BINPERSID
        return PushItems(Kind::kPersistent, {Pop()});
      case 'R':  // REDUCE
        return PushCall();
      case 'b':  // BUILD
        return PushState();
      default:
        Fail(fmt::format("opcode 0x{:02x} is none of those for plain values; it is not executed",
                         opcode));
    }
  }

  std::string_view bytes_;
  const PickleNames& names_;
  std::size_t at_ = 0;
  std::size_t opcode_at_ = 0;
  Pickle pickle_;
  std::vector<std::size_t> stack_;  // indices into pickle_.values
  std::vector<std::size_t> marks_;  // heights of stack_
  std::unordered_map<std::uint64_t, std::size_t> memo_;
  std::size_t copied_pairs_ = 0;
  std::size_t decoded_bytes_ = 0;
};

}  // namespace

Pickle ReadPickle(std::string_view bytes, const PickleNames& names) {
  return Unpickler(bytes, names).Run();
}

}  // namespace fr
