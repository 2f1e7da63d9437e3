#include "tests/fuzz/fuzz.h"
#include "worker/data/records/set_property.h"

FR_FUZZ_TARGET(bytes) {
  const fr::SetProperty property = fr::ParseProperty(bytes, "property");
  if (property.num_identities < 1 || property.height < 1 || property.width < 1) __builtin_trap();
}
