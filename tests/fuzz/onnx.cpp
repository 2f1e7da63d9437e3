// ONNX files, and the graph that they become.

#include "tests/fuzz/fuzz.h"
#include "worker/weights/foreign_graph.h"
#include "worker/weights/onnx_file.h"

FR_FUZZ_TARGET(bytes) {
  const fr::MemoryFile file(bytes);
  const fr::OnnxModel model = fr::ReadOnnx(file.path());
  for (const auto& [name, tensor] : model.initializers) tensor.ToFloat32();
  fr::FromOnnx(model);
}
