#pragma once
// Checkpoints of PyTorch: what torch.save wrote of a state_dict(), without PyTorch and without
// executing what the file says.

#include <filesystem>

#include "worker/weights/host_tensor.h"

namespace fr {

// The tensors of a state dict. Reads torch.save's zip format (since 1.6) and the older one. The
// dict may lie inside another, under state_dict, model, state_dict_backbone, backbone or net; what
// is beside it is left out, and so are its entries that are no tensors. A prefix "module." that all
// names share (DataParallel) is taken off. Contiguous tensors refer to the mapped file.
//
// Throws Error(kNotFound), Error(kIo) for what the system refuses, and Error(kDataLoss) for a
// damaged file, tensors outside their storage, compressed or big-endian files, and pickles that
// name anything but what tensors are made of (a whole module, an optimizer's classes).
HostTensors ReadTorchStateDict(const std::filesystem::path& path);

}  // namespace fr
