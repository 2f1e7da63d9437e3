#include "worker/data/verification/pairs_txt.h"

#include <algorithm>
#include <charconv>
#include <sstream>
#include <string_view>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/quoted.h"

namespace fr {
namespace {

class PairsReader {
 public:
  explicit PairsReader(const std::filesystem::path& path) : path_(path), text_(ReadFile(path)) {}

  std::vector<NamedPair> Read() {
    ReadHeader();
    while (NextLine()) {
      if (line_.find_first_not_of('\t') != std::string::npos) ReadPair();
    }
    const auto wanted = 2 * folds_ * pairs_per_kind_;
    if (std::ssize(pairs_) != wanted) {
      Fail(
          fmt::format("the list ends after {} pairs; its first line announces {} folds of {} "
                      "pairs of one identity and as many of two, which is {}",
                      pairs_.size(), folds_, pairs_per_kind_, wanted));
    }
    return std::move(pairs_);
  }

 private:
  [[noreturn]] void Fail(const std::string& what) const {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}:{}: {}", path_.string(), number_, what));
  }

  bool NextLine() {
    if (!std::getline(text_, line_)) return false;
    ++number_;
    if (line_.ends_with('\r')) line_.pop_back();
    return true;
  }

  // Names have no blanks in LFW, and other lists are separated by them.
  std::vector<std::string> Fields() const {
    std::istringstream in(line_);
    std::vector<std::string> fields;
    const bool tabs = line_.find('\t') != std::string::npos;
    for (std::string field; tabs ? bool(std::getline(in, field, '\t')) : bool(in >> field);) {
      fields.push_back(field);
    }
    return fields;
  }

  std::int64_t ParseNumber(const std::string& text, const char* what) const {
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    const bool whole = end == text.data() + text.size();
    if (error != std::errc() || !whole || number < 1 || number > 1'000'000'000) {
      Fail(fmt::format("{} is no {}", Quoted(text), what));
    }
    return number;
  }

  void ReadHeader() {
    const std::vector<std::string> fields = NextLine() ? Fields() : std::vector<std::string>();
    if (fields.size() != 1 && fields.size() != 2) {
      Fail("'folds<TAB>pairs' is expected here, such as 10<TAB>300, or one number of pairs");
    }
    if (fields.size() == 2) folds_ = ParseNumber(fields[0], "number of folds");
    pairs_per_kind_ = ParseNumber(fields.back(), "number of pairs");
  }

  NamedPicture ParsePicture(const std::string& name, const std::string& number) const {
    // The name becomes a path: it must not lead out of the folder.
    if (name.empty() || name.front() == '.' || name.find('/') != std::string::npos ||
        name.find('\0') != std::string::npos) {
      Fail(fmt::format("{} is no name of an identity", Quoted(name)));
    }
    return {name, ParseNumber(number, "number of a picture")};
  }

  void ReadPair() {
    const std::vector<std::string> fields = Fields();
    NamedPair pair;
    pair.line = number_;
    if (fields.size() == 3) {
      pair.same = true;
      pair.first = ParsePicture(fields[0], fields[1]);
      pair.second = ParsePicture(fields[0], fields[2]);
    } else if (fields.size() == 4) {
      pair.first = ParsePicture(fields[0], fields[1]);
      pair.second = ParsePicture(fields[2], fields[3]);
      if (pair.first.name == pair.second.name) {
        Fail(fmt::format("a pair of two identities, but both are {}", Quoted(pair.first.name)));
      }
    } else {
      Fail("'name<TAB>n1<TAB>n2' or 'name1<TAB>n1<TAB>name2<TAB>n2' is expected");
    }
    pairs_.push_back(std::move(pair));
  }

  std::filesystem::path path_;
  std::istringstream text_;
  std::string line_;
  std::int64_t number_ = 0;
  std::int64_t folds_ = 1;
  std::int64_t pairs_per_kind_ = 0;
  std::vector<NamedPair> pairs_;
};

}  // namespace

std::vector<NamedPair> ReadPairsTxt(const std::filesystem::path& path) {
  return PairsReader(path).Read();
}

}  // namespace fr
