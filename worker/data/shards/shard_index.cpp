#include "worker/data/shards/shard_index.h"

#include <algorithm>
#include <cstring>
#include <string>

#include <fmt/format.h>

#include "common/base/byte_cursor.h"
#include "common/base/checksum.h"
#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/logging.h"
#include "common/base/mapped_file.h"
#include "common/base/raw_value.h"

namespace fr {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kMagic = "FRSHARD1";
constexpr std::size_t kChecksumBytes = 8;

Shard TakeShard(ByteCursor* cursor) {
  Shard shard;
  shard.name = cursor->Take(cursor->Take<std::uint32_t>("a length"), "a name");
  shard.size_bytes = cursor->Take<std::uint64_t>("a size");
  shard.modified_ns = cursor->Take<std::int64_t>("a time");
  const auto count = cursor->Take<std::uint64_t>("a count");
  if (count > cursor->left() / sizeof(ShardSample)) cursor->Fail("announces too many samples");
  const std::string_view samples = cursor->Take(count * sizeof(ShardSample), "samples");
  shard.samples.resize(count);
  if (count > 0) std::memcpy(shard.samples.data(), samples.data(), samples.size());
  for (const ShardSample& sample : shard.samples) {
    if (sample.offset > shard.size_bytes || sample.length > shard.size_bytes - sample.offset) {
      cursor->Fail("a sample beyond the end of its shard");
    }
  }
  return shard;
}

bool SameFiles(const std::vector<Shard>& a, const std::vector<Shard>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Shard& x, const Shard& y) {
    return x.name == y.name && x.size_bytes == y.size_bytes && x.modified_ns == y.modified_ns;
  });
}

}  // namespace

void WriteShardIndex(const fs::path& directory, const std::vector<Shard>& shards) {
  static_assert(sizeof(ShardSample) == 16);
  std::string bytes(kMagic);
  AppendRaw(&bytes, static_cast<std::uint32_t>(shards.size()));
  for (const Shard& shard : shards) {
    AppendRaw(&bytes, static_cast<std::uint32_t>(shard.name.size()));
    bytes += shard.name;
    AppendRaw(&bytes, shard.size_bytes);
    AppendRaw(&bytes, shard.modified_ns);
    AppendRaw(&bytes, static_cast<std::uint64_t>(shard.samples.size()));
    bytes.append(reinterpret_cast<const char*>(shard.samples.data()),
                 shard.samples.size() * sizeof(ShardSample));
  }
  AppendRaw(&bytes, ChecksumOf(bytes));
  WriteFileAtomically(directory / "shards.idx", bytes);
}

std::vector<Shard> ParseShardIndex(std::string_view bytes, const fs::path& path) {
  ByteCursor cursor(bytes, path.string());
  if (bytes.size() < kMagic.size() + kChecksumBytes || !bytes.starts_with(kMagic)) {
    cursor.Fail("is no index of shards");
  }
  const std::string_view content = bytes.substr(0, bytes.size() - kChecksumBytes);
  ByteCursor checksum(bytes, path.string(), content.size());
  if (checksum.Take<std::uint64_t>("a checksum") != ChecksumOf(content)) {
    cursor.Fail("its checksum is another");
  }
  ByteCursor rest(content, path.string(), kMagic.size());
  std::vector<Shard> shards;
  for (auto count = rest.Take<std::uint32_t>("a count"); count > 0; --count) {
    shards.push_back(TakeShard(&rest));
  }
  if (rest.left() != 0) rest.Fail("more bytes than announced");
  return shards;
}

bool ReadShardIndex(const fs::path& directory, std::vector<Shard>* shards) {
  const fs::path path = directory / "shards.idx";
  std::error_code error;
  if (!fs::exists(path, error)) return false;
  std::string cause =
      fmt::format("{}: was made of other files, or before they changed", path.string());
  try {
    std::vector<Shard> indexed = ParseShardIndex(MappedFile(path, true).bytes(), path);
    if (SameFiles(indexed, *shards)) {
      *shards = std::move(indexed);
      return true;
    }
  } catch (const Error& damaged) {
    cause = damaged.what();
  }
  spdlog::warn("{}; the shards are read instead, fr-data index writes it anew", cause);
  return false;
}

}  // namespace fr
