#include "worker/data/verification_set.h"

#include <fmt/format.h>

#include "common/base/error.h"
#include "worker/data/pickle.h"

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
    return ReadPickle(bytes);
  } catch (const Error& error) {
    ThrowDamaged(path, error.what());
  }
}

}  // namespace

VerificationSet VerificationSet::Open(const std::filesystem::path& path) {
  VerificationSet set;
  set.path_ = path;
  set.file_ = std::make_shared<const MappedFile>(path, true);
  const Pickle pickle = Unpickle(path, set.file_->bytes());
  const std::vector<std::size_t>& parts = Sequence(path, pickle, pickle.root);
  if (parts.size() != 2) ThrowDamaged(path, "it is no pair");
  const std::vector<std::size_t>& images = Sequence(path, pickle, parts[0]);
  const std::vector<std::size_t>& same = Sequence(path, pickle, parts[1]);
  if (images.size() != 2 * same.size() || same.empty()) {
    ThrowDamaged(path, fmt::format("{} images, and {} pairs of them", images.size(), same.size()));
  }
  for (const std::size_t item : images) {
    const PickleValue& value = pickle.values[item];
    if (value.kind != Kind::kBytes) ThrowDamaged(path, "an image is no bytes");
    set.images_.push_back(value.bytes);
  }
  for (const std::size_t item : same) {
    const PickleValue& value = pickle.values[item];
    const bool is_number = value.kind == Kind::kBool || value.kind == Kind::kInt;
    if (!is_number || value.number < 0 || value.number > 1) {
      ThrowDamaged(path, "one of the booleans is none");
    }
    set.same_.push_back(static_cast<std::uint8_t>(value.number));
  }
  return set;
}

}  // namespace fr
