// Pickles: as plain values, as a verification set, and with PyTorch's names.

#include "worker/data/pickle/pickle.h"

#include "tests/fuzz/fuzz.h"
#include "worker/data/verification/verification_set.h"

static void ReadPlain(std::string_view bytes) {
  try {
    fr::ReadPickle(bytes);
  } catch (const fr::Error&) {
  }
}

FR_FUZZ_TARGET(bytes) {
  ReadPlain(bytes);
  const auto set = fr::VerificationSet::Parse(bytes, "set.bin");
  std::size_t sum = 0;
  for (std::int64_t i = 0; i < set.num_images(); ++i) {
    for (const char byte : set.image(i)) sum += static_cast<unsigned char>(byte);
  }
  if (sum == 1) throw fr::Error(fr::ErrorCode::kInternal, "so that it is read");
}
