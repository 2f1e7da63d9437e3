#include "worker/data/shards/shard_scan.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <limits>
#include <optional>

#include <fmt/format.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/mapped_file.h"
#include "common/base/parallel.h"
#include "common/base/quoted.h"
#include "common/base/trimmed.h"
#include "worker/data/folders/picture_folder.h"
#include "worker/data/images/image.h"
#include "worker/data/shards/tar_reader.h"

namespace fr {

namespace fs = std::filesystem;

namespace {

// Identities are counted in 32 bits with room above: a head has a row for each.
constexpr std::int64_t kMaxLabel = std::numeric_limits<std::int32_t>::max() - 1;

// "a/0001" and "seg.png" of "a/0001.seg.png"; without the second, no file of a sample.
struct MemberName {
  std::string_view key;
  std::string extension;  // in lower case
};

MemberName SplitName(std::string_view name) {
  const std::size_t slash = name.rfind('/');
  const std::size_t base = slash == std::string_view::npos ? 0 : slash + 1;
  const std::size_t dot = name.find('.', base);
  if (dot == std::string_view::npos || dot == base) return {name, ""};
  std::string extension(name.substr(dot + 1));
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return {name.substr(0, dot), extension};
}

std::optional<std::int64_t> ParseCls(std::string_view text) {
  const std::string_view digits = Trimmed(text);
  const char* const end = digits.data() + digits.size();
  std::int64_t label = 0;
  const auto [stop, error] = std::from_chars(digits.data(), end, label);
  if (error != std::errc() || stop != end) return std::nullopt;
  return label;
}

// Other JSON, as sets have it beside .cls, is none.
std::optional<std::int64_t> ParseJson(std::string_view text) {
  const auto json = nlohmann::json::parse(text.begin(), text.end(), nullptr, false);
  if (!json.is_object()) return std::nullopt;
  for (const char* key : {"label", "cls"}) {
    const auto found = json.find(key);
    if (found != json.end() && found->is_number_integer()) return found->get<std::int64_t>();
  }
  return std::nullopt;
}

// Puts the files of one sample together.
class ShardScanner {
 public:
  ShardScanner(std::string_view archive, const std::string& file)
      : reader_(archive, file), file_(file) {}

  std::vector<ShardSample> Run() {
    TarMember member;
    while (reader_.Next(&member)) {
      if (!member.is_file) continue;
      const auto [key, extension] = SplitName(member.name);
      if (extension.empty()) continue;
      if (key != key_) {
        Finish();
        key_ = key;
        at_ = member.offset;
      }
      Add(member, extension);
    }
    Finish();
    return std::move(samples_);
  }

 private:
  [[noreturn]] void Fail(const std::string& what) const {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: sample {} at byte {}: {}", file_, Quoted(key_), at_, what));
  }

  void Add(const TarMember& member, const std::string& extension) {
    if (extension == "cls") {
      if (cls_) Fail("has two labels (.cls)");
      cls_ = ParseCls(member.content);
      if (!cls_) Fail(fmt::format("its .cls is {}, not an integer", Quoted(member.content)));
    } else if (extension == "json") {
      json_ = ParseJson(member.content);
    } else if (extension.find('.') == std::string::npos && IsPictureName("x." + extension)) {
      if (picture_) Fail("has two pictures");
      if (member.content.size() > std::numeric_limits<std::uint32_t>::max()) {
        Fail("has a picture of more than 4 GiB");
      }
      picture_ = ShardSample{member.offset, static_cast<std::uint32_t>(member.content.size()), 0};
    }
  }

  // The sample so far is complete.
  void Finish() {
    const std::optional<std::int64_t> label = cls_ ? cls_ : json_;
    if (picture_ && !label) {
      Fail(
          "has no label: a .cls with an integer, or a .json with \"label\" or \"cls\", is expected "
          "beside the picture");
    }
    // JSON alone may be about anything.
    if (cls_ && !picture_) Fail("has a label, but no picture");
    if (picture_) {
      if (*label < 0 || *label > kMaxLabel) {
        Fail(fmt::format("its label is {}; 0 to {} are possible", *label, kMaxLabel));
      }
      picture_->label = static_cast<std::uint32_t>(*label);
      samples_.push_back(*picture_);
    }
    picture_.reset();
    cls_.reset();
    json_.reset();
  }

  TarReader reader_;
  const std::string& file_;
  std::string key_;
  std::uint64_t at_ = 0;  // where the sample begins
  std::optional<ShardSample> picture_;
  std::optional<std::int64_t> cls_;
  std::optional<std::int64_t> json_;
  std::vector<ShardSample> samples_;
};

}  // namespace

std::vector<ShardSample> ScanShard(std::string_view archive, const std::string& file) {
  return ShardScanner(archive, file).Run();
}

std::vector<Shard> ListShards(const fs::path& directory) {
  std::vector<Shard> shards;
  std::error_code error;
  for (fs::directory_iterator file(directory, error), end; !error && file != end;
       file.increment(error)) {
    struct stat status = {};
    if (LowerExtension(file->path()) != ".tar" || stat(file->path().c_str(), &status) != 0 ||
        !S_ISREG(status.st_mode)) {
      continue;
    }
    shards.push_back({file->path().filename().string(),
                      static_cast<std::uint64_t>(status.st_size),
                      status.st_mtim.tv_sec * std::int64_t{1'000'000'000} + status.st_mtim.tv_nsec,
                      {}});
  }
  if (error) {
    throw Error(ErrorCode::kIo, fmt::format("{}: {}", directory.string(), error.message()));
  }
  if (shards.empty()) {
    throw Error(ErrorCode::kNotFound, fmt::format("{}: holds no *.tar", directory.string()));
  }
  std::sort(shards.begin(), shards.end(),
            [](const Shard& a, const Shard& b) { return NaturalLess(a.name, b.name); });
  return shards;
}

void ScanShards(const fs::path& directory, int threads, std::vector<Shard>* shards) {
  ParallelFor(std::ssize(*shards), threads, [&](std::int64_t i) {
    Shard& shard = (*shards)[static_cast<std::size_t>(i)];
    const fs::path path = directory / shard.name;
    const MappedFile file(path, true);
    shard.samples = ScanShard(file.bytes(), path.string());
  });
}

}  // namespace fr
