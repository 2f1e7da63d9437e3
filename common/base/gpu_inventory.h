#pragma once
// The GPUs of this machine, as NVIDIA's management library (NVML) knows them. It comes with the
// driver and is loaded when it is asked: nothing is linked against it, nothing of CUDA is needed,
// and looking takes no memory on a GPU.

#include <cstdint>
#include <string>
#include <vector>

namespace fr {

struct GpuInfo {
  // Its number in the order of the PCI bus, from 0. It is the same after a restart and under any
  // driver; CUDA counts alike with CUDA_DEVICE_ORDER=PCI_BUS_ID.
  int index = 0;
  std::string name;                    // "NVIDIA H100 80GB HBM3"
  std::string uuid;                    // "GPU-" and a UUID: this very card, in whatever slot
  std::int64_t memory_bytes = 0;       // 0: not known, as where it shares the processor's memory
  std::int64_t memory_free_bytes = 0;  // now
  int compute_major = 0;               // 9 of capability 9.0; 0: not known
  int compute_minor = 0;
};

// All of the machine's GPUs by index, whatever CUDA_VISIBLE_DEVICES says: it is an inventory of the
// machine and not of what this process may use. A GPU that does not answer is left out.
//
// The library is libnvidia-ml.so.1; the environment's FR_NVML_LIBRARY names another one. A machine
// without it has no GPUs, and that is no trouble. Never throws: whatever else goes wrong (a named
// library that is not there, a driver that is not loaded, a GPU that fell off the bus) is said in
// `*trouble`, in one line; empty where nothing is wrong. Takes up to a few seconds where the driver
// has to wake the GPUs first.
std::vector<GpuInfo> FindGpus(std::string* trouble = nullptr);

}  // namespace fr
