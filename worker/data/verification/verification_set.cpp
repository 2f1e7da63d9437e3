#include "worker/data/verification/verification_set.h"

#include <optional>
#include <utility>

#include <fmt/format.h>

#include "common/base/error.h"
#include "worker/data/pickle/numpy_pickle.h"

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

}  // namespace fr
