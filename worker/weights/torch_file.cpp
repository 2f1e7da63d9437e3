#include "worker/weights/torch_file.h"

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "common/base/byte_cursor.h"
#include "common/base/error.h"
#include "common/base/mapped_file.h"
#include "common/base/quoted.h"
#include "worker/data/pickle/pickle.h"
#include "worker/weights/stored_zip.h"
#include "worker/weights/torch_pickle.h"

namespace fr {
namespace {

using Storages = std::map<std::string_view, std::string_view>;
using Owner = std::shared_ptr<const MappedFile>;

constexpr std::string_view kZipSignature = "PK\x03\x04";
// The first two pickles of the older format: PyTorch's magic number, protocol version 1001.
constexpr std::string_view kLegacyMagic = "\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
constexpr std::int64_t kLegacyProtocol = 1001;

// Runs `read`, naming `file` and what was read in its errors.
template <typename Function>
auto Within(const std::string& file, std::string_view what, Function read) {
  try {
    return read();
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("{}: {}: {}", file, what, error.what()));
  }
}

// "archive/" of "archive/data.pkl".
std::string ArchiveFolder(const StoredZip& zip, const std::string& file) {
  constexpr std::string_view kPickle = "data.pkl";
  for (const auto& [name, entry] : zip.entries()) {
    if (name == kPickle || name.ends_with("/data.pkl")) {
      return name.substr(0, name.size() - kPickle.size());
    }
  }
  throw Error(
      ErrorCode::kDataLoss,
      fmt::format("{}: is a zip file, but none that torch.save wrote: it has no data.pkl", file));
}

HostTensors ReadZip(const Owner& owner, const std::string& file) {
  const StoredZip zip(owner->bytes(), file);
  const std::string folder = ArchiveFolder(zip, file);
  if (zip.entries().count(folder + "constants.pkl") != 0) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: is a TorchScript program: save model.state_dict()", file));
  }
  if (zip.entries().count(folder + "byteorder") != 0 &&
      zip.Read(folder + "byteorder") != "little") {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: is big-endian; only little-endian files are read", file));
  }
  const Pickle pickle = Within(file, folder + "data.pkl",
                               [&] { return ReadTorchPickle(zip.Read(folder + "data.pkl")); });
  Storages storages;
  for (const TorchStorage& storage : Within(file, "storages", [&] { return StoragesOf(pickle); })) {
    const std::string_view bytes = zip.Read(fmt::format("{}data/{}", folder, storage.key));
    if (static_cast<std::int64_t>(bytes.size()) != storage.bytes) {
      throw Error(ErrorCode::kDataLoss,
                  fmt::format("{}: storage {} has {} bytes where {} are promised", file,
                              Quoted(storage.key), bytes.size(), storage.bytes));
    }
    storages[storage.key] = bytes;
  }
  return Within(file, "state dict", [&] { return StateDictOf(pickle, storages, owner); });
}

// The keys' pickle, then for each key its number of elements and its bytes.
Storages ReadLegacyStorages(const std::vector<TorchStorage>& needed, const Pickle& keys,
                            ByteCursor* cursor) {
  std::map<std::string_view, TorchStorage> promised;
  for (const TorchStorage& storage : needed) promised[storage.key] = storage;
  Storages storages;
  for (const std::size_t item : keys.values[keys.root].items) {
    const std::string_view key = keys.values[item].bytes;
    const auto found = promised.find(key);
    if (found == promised.end())
      cursor->Fail(fmt::format("no tensor uses storage {}", Quoted(key)));
    const TorchStorage& storage = found->second;
    const auto elements =
        cursor->Take<std::int64_t>(fmt::format("size of storage {}", Quoted(key)));
    if (elements != storage.bytes / storage.element_bytes) {
      cursor->Fail(fmt::format("storage {} has {} elements where {} are promised", Quoted(key),
                               elements, storage.bytes / storage.element_bytes));
    }
    storages[key] = cursor->Take(static_cast<std::uint64_t>(storage.bytes),
                                 fmt::format("storage {}", Quoted(key)));
  }
  return storages;
}

// Bytes of the magic number's pickle, or 0 if `bytes` do not start with it. PROTO comes first, in
// later protocols also a FRAME.
std::size_t LegacyMagicBytes(std::string_view bytes) {
  constexpr std::size_t kProto = 2;
  constexpr std::size_t kFrame = 9;
  for (const std::size_t before : {kProto, kProto + kFrame}) {
    if (bytes.size() > before && bytes.substr(before).starts_with(kLegacyMagic)) {
      return before + kLegacyMagic.size();
    }
  }
  return 0;
}

HostTensors ReadLegacy(const Owner& owner, const std::string& file) {
  const std::string_view bytes = owner->bytes();
  ByteCursor cursor(bytes, file, LegacyMagicBytes(bytes));
  const auto next = [&](const char* what) {
    return Within(file, fmt::format("{} at byte {}", what, cursor.at()), [&] {
      Pickle pickle = ReadTorchPickle(bytes.substr(cursor.at()));
      cursor.Take(pickle.size, what);
      return pickle;
    });
  };
  const Pickle protocol = next("the protocol's pickle");
  if (protocol.values[protocol.root].number != kLegacyProtocol) {
    cursor.Fail(fmt::format("protocol {} is expected", kLegacyProtocol));
  }
  const Pickle system = next("the system's pickle");
  const std::vector<std::size_t>& facts = system.values[system.root].items;
  for (std::size_t i = 0; i + 1 < facts.size(); i += 2) {
    if (system.values[facts[i]].bytes == "little_endian" &&
        system.values[facts[i + 1]].number != 1) {
      cursor.Fail("the file is big-endian; only little-endian files are read");
    }
  }
  const Pickle pickle = next("the checkpoint's pickle");
  const Pickle keys = next("the list of storages");
  const auto needed = Within(file, "storages", [&] { return StoragesOf(pickle); });
  const Storages storages = ReadLegacyStorages(needed, keys, &cursor);
  return Within(file, "state dict", [&] { return StateDictOf(pickle, storages, owner); });
}

}  // namespace

HostTensors ReadTorchStateDict(const std::filesystem::path& path) {
  const auto owner = std::make_shared<const MappedFile>(path, /*sequential=*/true);
  const std::string_view bytes = owner->bytes();
  const std::string file = path.string();
  if (bytes.starts_with(kZipSignature)) return ReadZip(owner, file);
  if (LegacyMagicBytes(bytes) != 0) return ReadLegacy(owner, file);
  throw Error(ErrorCode::kDataLoss,
              fmt::format("{}: is no PyTorch checkpoint: it starts neither as a zip file nor with "
                          "PyTorch's magic number (truncated, or saved before PyTorch 0.1.10?)",
                          file));
}

}  // namespace fr
