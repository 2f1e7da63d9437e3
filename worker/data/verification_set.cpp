#include "worker/data/verification_set.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/random.h"
#include "worker/data/numpy_pickle.h"

namespace fr {
namespace {

using Kind = PickleValue::Kind;

[[noreturn]] void ThrowDamaged(const std::filesystem::path& path, const std::string& cause) {
  throw Error(ErrorCode::kDataLoss,
              fmt::format("{}: {}; a verification set is a pickle of (list of encoded images, list "
                          "of booleans)",
                          path.string(), cause));
}

const std::vector<std::size_t>& Sequence(const std::filesystem::path& path, const Pickle& pickle,
                                         std::size_t index) {
  const PickleValue& value = pickle.values[index];
  if (value.kind != Kind::kSequence) ThrowDamaged(path, "a list is missing");
  return value.items;
}

Pickle Unpickle(const std::filesystem::path& path, std::string_view bytes) {
  try {
    return ReadPickle(bytes, kNumpyNames);
  } catch (const Error& error) {
    ThrowDamaged(path, error.what());
  }
}

// Encoded: bytes, or numpy's uint8.
std::string_view ReadImage(const std::filesystem::path& path, const Pickle& pickle,
                           std::size_t index) {
  const PickleValue& value = pickle.values[index];
  if (value.kind == Kind::kBytes) return value.bytes;
  const std::optional<NumpyBytes> array = ReadNumpy(pickle, index);
  if (!array || array->is_bool || array->is_scalar) ThrowDamaged(path, "an image is no bytes");
  return array->bytes;
}

// A boolean, or the number 0 or 1.
std::uint8_t ReadFlag(const std::filesystem::path& path, const Pickle& pickle, std::size_t index) {
  const PickleValue& value = pickle.values[index];
  std::int64_t number = -1;
  if (value.kind == Kind::kBool || value.kind == Kind::kInt) number = value.number;
  const std::optional<NumpyBytes> scalar = ReadNumpy(pickle, index);
  if (scalar && scalar->is_scalar) number = static_cast<unsigned char>(scalar->bytes[0]);
  if (number < 0 || number > 1) ThrowDamaged(path, "one of the booleans is none");
  return static_cast<std::uint8_t>(number);
}

// A list of them, or an array.
std::vector<std::uint8_t> ReadFlags(const std::filesystem::path& path, const Pickle& pickle,
                                    std::size_t index) {
  std::vector<std::uint8_t> flags;
  if (const std::optional<NumpyBytes> array = ReadNumpy(pickle, index);
      array && !array->is_scalar) {
    for (const char byte : array->bytes) {
      if (byte != 0 && byte != 1) ThrowDamaged(path, "one of the booleans is none");
      flags.push_back(static_cast<std::uint8_t>(byte));
    }
    return flags;
  }
  for (const std::size_t item : Sequence(path, pickle, index)) {
    flags.push_back(ReadFlag(path, pickle, item));
  }
  return flags;
}

// `count` numbers of [0, total), ascending, none twice (Floyd's algorithm).
std::vector<std::int64_t> Sample(std::int64_t total, std::int64_t count, Random& random) {
  std::set<std::int64_t> chosen;
  for (std::int64_t j = total - count; j < total; ++j) {
    if (!chosen.insert(random.Below(j + 1)).second) chosen.insert(j);
  }
  return {chosen.begin(), chosen.end()};
}

// All pairs of one identity, in order.
std::vector<VerificationPair> SamePairs(const std::vector<std::int64_t>& images_per_identity) {
  std::vector<VerificationPair> pairs;
  std::int64_t begin = 0;
  for (const std::int64_t images : images_per_identity) {
    for (std::int64_t a = 0; a < images; ++a) {
      for (std::int64_t b = a + 1; b < images; ++b) {
        pairs.push_back({begin + a, begin + b, true});
      }
    }
    begin += images;
  }
  return pairs;
}

// `count` different pairs of two identities, or all if there are fewer.
std::vector<VerificationPair> DifferentPairs(const std::vector<std::int64_t>& images_per_identity,
                                             std::int64_t count, Random& random) {
  std::vector<std::int64_t> owner;
  std::int64_t possible = 0;
  for (std::size_t identity = 0; identity < images_per_identity.size(); ++identity) {
    possible += static_cast<std::int64_t>(owner.size()) * images_per_identity[identity];
    owner.insert(owner.end(), static_cast<std::size_t>(images_per_identity[identity]),
                 static_cast<std::int64_t>(identity));
  }
  const auto total = static_cast<std::int64_t>(owner.size());
  std::set<std::pair<std::int64_t, std::int64_t>> chosen;
  std::vector<VerificationPair> pairs;
  while (static_cast<std::int64_t>(pairs.size()) < std::min(count, possible)) {
    std::int64_t a = random.Below(total);
    std::int64_t b = random.Below(total);
    if (a > b) std::swap(a, b);
    if (owner[static_cast<std::size_t>(a)] == owner[static_cast<std::size_t>(b)]) continue;
    if (chosen.insert({a, b}).second) pairs.push_back({a, b, false});
  }
  return pairs;
}

}  // namespace

VerificationSet VerificationSet::Open(const std::filesystem::path& path) {
  auto file = std::make_shared<const MappedFile>(path, true);
  VerificationSet set = Parse(file->bytes(), path);
  set.file_ = std::move(file);
  return set;
}

VerificationSet VerificationSet::Parse(std::string_view bytes, const std::filesystem::path& path) {
  VerificationSet set;
  set.path_ = path;
  Pickle pickle = Unpickle(path, bytes);
  const std::vector<std::size_t>& parts = Sequence(path, pickle, pickle.root);
  if (parts.size() != 2) ThrowDamaged(path, "it is no pair");
  const std::vector<std::size_t>& images = Sequence(path, pickle, parts[0]);
  set.same_ = ReadFlags(path, pickle, parts[1]);
  if (images.size() != 2 * set.same_.size() || images.empty()) {
    ThrowDamaged(path,
                 fmt::format("{} images, and {} pairs of them", images.size(), set.same_.size()));
  }
  for (const std::size_t item : images) {
    set.images_.push_back(ReadImage(path, pickle, item));
  }
  set.decoded_ = std::make_shared<const std::deque<std::string>>(std::move(pickle.decoded));
  return set;
}

std::vector<VerificationPair> MakePairs(const std::vector<std::int64_t>& images_per_identity,
                                        std::int64_t max_pairs, std::uint64_t seed) {
  Random random(seed);
  const std::vector<VerificationPair> all_same = SamePairs(images_per_identity);
  const auto available = static_cast<std::int64_t>(all_same.size());
  const std::int64_t wanted = std::min(available, max_pairs / 2);
  const std::vector<VerificationPair> different =
      DifferentPairs(images_per_identity, wanted, random);
  const std::vector<std::int64_t> chosen =
      Sample(available, std::min<std::int64_t>(wanted, std::ssize(different)), random);
  if (chosen.size() < 5) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} held-out identities give {} pairs, and ten are the least: hold out "
                            "more identities, with two images or more each",
                            images_per_identity.size(), 2 * chosen.size()));
  }
  std::vector<VerificationPair> pairs;
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    pairs.push_back(all_same[static_cast<std::size_t>(chosen[i])]);
    pairs.push_back(different[i]);
  }
  return pairs;
}

void WriteVerificationSet(const std::filesystem::path& path, const std::vector<std::string>& images,
                          const std::vector<VerificationPair>& pairs) {
  std::vector<std::string> paired;
  std::vector<bool> same;
  for (const VerificationPair& pair : pairs) {
    paired.push_back(images[static_cast<std::size_t>(pair.first)]);
    paired.push_back(images[static_cast<std::size_t>(pair.second)]);
    same.push_back(pair.same);
  }
  WriteFileAtomically(path, WritePickle(paired, same));
}

}  // namespace fr
