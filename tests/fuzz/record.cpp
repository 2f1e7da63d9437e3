// Records of train.rec: one after the other from the beginning, and at the last byte but a few.

#include "tests/fuzz/fuzz.h"
#include "worker/data/records/record_file.h"
#include "worker/data/records/record_layout.h"

FR_FUZZ_TARGET(bytes) {
  fr::ImageRecord record;
  std::uint64_t end = 0;
  for (std::uint64_t at = 0; fr::ParseRecord(bytes, at, &record, &end) == nullptr; at = end) {
    std::int64_t first = 0;
    std::int64_t last = 0;
    fr::IdentityOf(record, 10);
    fr::ReadImageRange(record, {1, 5, 7}, &first, &last);
    if (first < 0 || last > 4) __builtin_trap();
    try {
      const fr::RecordLayout layout = fr::LayoutOf(record, 7, "train.rec");
      if (layout.images_end > 7 || layout.identities_end > 7) __builtin_trap();
    } catch (const fr::Error&) {
    }
  }
  fr::ParseRecord(bytes, bytes.size() - bytes.size() % 7, &record, &end);
}
