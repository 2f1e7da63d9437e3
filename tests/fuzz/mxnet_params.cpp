#include "tests/fuzz/fuzz.h"
#include "worker/weights/mxnet_file.h"

FR_FUZZ_TARGET(bytes) {
  const fr::MemoryFile file(bytes);
  for (const auto& [name, tensor] : fr::ReadMxnetParams(file.path())) tensor.ToFloat32();
}
