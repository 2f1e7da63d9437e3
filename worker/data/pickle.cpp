#include "worker/data/pickle.h"

#include <charconv>
#include <cstring>
#include <unordered_map>

#include <fmt/format.h>

#include "common/base/error.h"

namespace fr {
namespace {

using Kind = PickleValue::Kind;

// A stack machine, as Python's pickle module documents it (Lib/pickletools.py).
class Unpickler {
 public:
  explicit Unpickler(std::string_view bytes) : bytes_(bytes) {}

  Pickle Run() {
    while (true) {
      opcode_at_ = at_;
      const auto opcode = static_cast<unsigned char>(Take(1)[0]);
      if (opcode == '.') break;
      Execute(opcode);
    }
    if (stack_.size() != 1 || !marks_.empty()) Fail("ends with an unfinished value");
    pickle_.root = stack_.back();
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

  void Push(PickleValue value) {
    pickle_.values.push_back(std::move(value));
    stack_.push_back(pickle_.values.size() - 1);
  }
  void PushNumber(Kind kind, std::int64_t number) { Push({kind, number, {}, {}}); }
  void PushBytes(int length_size) { Push({Kind::kBytes, 0, Take(TakeNumber(length_size)), {}}); }

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
    Push({Kind::kSequence, 0, {}, PopFrom(stack_.size() - size)});
  }

  void AppendToList(const std::vector<std::size_t>& items) {
    if (stack_.empty() || (!marks_.empty() && marks_.back() == stack_.size())) {
      Fail("there is no list to append to");
    }
    PickleValue& list = pickle_.values[stack_.back()];
    if (list.kind != Kind::kSequence) Fail("appends to what is no list");
    list.items.insert(list.items.end(), items.begin(), items.end());
  }

  void Memoize(std::uint64_t key) {
    if (stack_.empty()) Fail("there is nothing to remember");
    memo_[key] = stack_.back();
  }

  void Recall(std::uint64_t key) {
    const auto found = memo_.find(key);
    if (found == memo_.end()) Fail("recalls what was never remembered");
    stack_.push_back(found->second);
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
        marks_.push_back(stack_.size());
        return;
      case ')':
      case ']':
        Push({Kind::kSequence, 0, {}, {}});
        return;
      case 't':
      case 'l':
        Push({Kind::kSequence, 0, {}, PopToMark()});
        return;
      case 0x85:
      case 0x86:
      case 0x87:  // TUPLE1, 2, 3
        PushTuple(opcode - 0x84U);
        return;
      case 'a': {
        if (stack_.empty()) Fail("there is nothing to append");
        const std::size_t item = stack_.back();
        stack_.pop_back();
        AppendToList({item});
        return;
      }
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
      case 'K':
        PushNumber(Kind::kInt, static_cast<std::int64_t>(TakeNumber(1)));
        return;
      case 'M':
        PushNumber(Kind::kInt, static_cast<std::int64_t>(TakeNumber(2)));
        return;
      case 0x8a:  // LONG1
        PushLong();
        return;
      case 'U':
      case 'C':
      case 0x8c:  // strings, bytes and text whose length has 1 byte
        PushBytes(1);
        return;
      case 'T':
      case 'B':
      case 'X':  // ... 4 bytes
        PushBytes(4);
        return;
      case 0x8d:
      case 0x8e:
      case 0x96:  // ... 8 bytes (0x96: bytearray)
        PushBytes(8);
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
        Fail(
            fmt::format("opcode 0x{:02x} is none of those for lists, tuples, bytes, text, integers "
                        "and booleans; it is not executed",
                        opcode));
    }
  }

  std::string_view bytes_;
  std::size_t at_ = 0;
  std::size_t opcode_at_ = 0;
  Pickle pickle_;
  std::vector<std::size_t> stack_;  // indices into pickle_.values
  std::vector<std::size_t> marks_;  // heights of stack_
  std::unordered_map<std::uint64_t, std::size_t> memo_;
};

void AppendNumber(std::string* out, std::uint64_t number, int size) {
  for (int i = 0; i < size; ++i) out->push_back(static_cast<char>(number >> (8 * i)));
}

}  // namespace

Pickle ReadPickle(std::string_view bytes) { return Unpickler(bytes).Run(); }

std::string WritePickle(const std::vector<std::string>& images, const std::vector<bool>& flags) {
  std::string out = "\x80\x03](";
  for (const std::string& image : images) {
    out.push_back('B');
    AppendNumber(&out, image.size(), 4);
    out += image;
  }
  out += "e](";
  for (const bool flag : flags) out.push_back(flag ? '\x88' : '\x89');
  out += "e\x86.";
  return out;
}

}  // namespace fr
