// Pictures of every kind, of the one size that is asked for: others end at their headers.

#include "worker/data/images/image.h"

#include <vector>

#include "tests/fuzz/fuzz.h"

FR_FUZZ_TARGET(bytes) {
  std::vector<std::uint8_t> pixels(16 * 16 * 3);
  fr::DecodeImageInto(bytes, 16, 16, pixels.data());
}
