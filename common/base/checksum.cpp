#include "common/base/checksum.h"

#include <new>

#include <xxhash.h>

namespace fr {

struct Checksum::State {
  XXH3_state_t* xxh = XXH3_createState();
  ~State() { XXH3_freeState(xxh); }
};

Checksum::Checksum() : state_(std::make_unique<State>()) {
  if (state_->xxh == nullptr) throw std::bad_alloc();
  XXH3_64bits_reset(state_->xxh);
}

Checksum::~Checksum() = default;

void Checksum::Update(const void* bytes, std::size_t size) {
  XXH3_64bits_update(state_->xxh, bytes, size);
}

std::uint64_t Checksum::Value() const { return XXH3_64bits_digest(state_->xxh); }

std::uint64_t ChecksumOf(std::string_view bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

Checksum128 Checksum128Of(std::string_view bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {hash.high64, hash.low64};
}

}  // namespace fr
