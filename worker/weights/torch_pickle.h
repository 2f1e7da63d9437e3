#pragma once
// What the pickle inside a PyTorch checkpoint says: which tensors lie in which storages.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "worker/data/pickle/pickle.h"
#include "worker/weights/host_tensor.h"

namespace fr {

// Reads a checkpoint's pickle, which may name what tensors are made of and nothing else. Throws
// Error(kDataLoss).
Pickle ReadTorchPickle(std::string_view bytes);

// A piece of raw memory that tensors are views of.
struct TorchStorage {
  std::string_view key;            // its name in the file
  std::int64_t element_bytes = 0;  // 1 if it is untyped
  std::int64_t bytes = 0;
};

// Every storage that the pickle refers to. Throws Error(kDataLoss) for references that are none.
std::vector<TorchStorage> StoragesOf(const Pickle& pickle);

// The tensors of the state dict in `pickle`, see ReadTorchStateDict. `storages` are their bytes by
// key, as many as StoragesOf said; `owner` keeps them alive. Throws Error(kDataLoss).
HostTensors StateDictOf(const Pickle& pickle,
                        const std::map<std::string_view, std::string_view>& storages,
                        const std::shared_ptr<const void>& owner);

}  // namespace fr
