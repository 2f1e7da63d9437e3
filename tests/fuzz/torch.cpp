// Checkpoints of PyTorch: zip files, older ones, and the pickle that is in both.

#include <map>
#include <string_view>
#include <vector>

#include "tests/fuzz/fuzz.h"
#include "worker/weights/torch_file.h"
#include "worker/weights/torch_pickle.h"

// Its storages hold zeros; large ones are not there.
static void ReadPickleAlone(std::string_view bytes) {
  const fr::Pickle pickle = fr::ReadTorchPickle(bytes);
  static const std::vector<char> zeros(1 << 16);
  std::map<std::string_view, std::string_view> storages;
  for (const fr::TorchStorage& storage : fr::StoragesOf(pickle)) {
    if (storage.bytes < 0 || storage.bytes > 1 << 16) return;
    storages[storage.key] = {zeros.data(), static_cast<std::size_t>(storage.bytes)};
  }
  for (const auto& [name, tensor] : fr::StateDictOf(pickle, storages, nullptr)) tensor.ToFloat32();
}

FR_FUZZ_TARGET(bytes) {
  if (bytes.starts_with("\x80\x02}") || bytes.starts_with("\x80\x02c")) {
    ReadPickleAlone(bytes);
    return;
  }
  const fr::MemoryFile file(bytes);
  for (const auto& [name, tensor] : fr::ReadTorchStateDict(file.path())) tensor.ToFloat32();
}
