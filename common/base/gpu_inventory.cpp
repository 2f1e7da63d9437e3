#include "common/base/gpu_inventory.h"

#include <array>
#include <cstdlib>
#include <memory>
#include <utility>

#include <dlfcn.h>
#include <fmt/format.h>

#include "common/base/error.h"

namespace fr {
namespace {

// The few things of nvml.h that are used here. NVML keeps them as they are: what changes gets a new
// name (_v2).
using NvmlReturn = int;
constexpr NvmlReturn kNvmlSuccess = 0;
struct NvmlDevice;  // only ever pointed at
struct NvmlMemory {
  unsigned long long total;  // bytes
  unsigned long long free;
  unsigned long long used;
};
constexpr std::size_t kTextBytes = 96;  // NVML_DEVICE_NAME_V2_BUFFER_SIZE, and of a UUID

constexpr const char* kUsualLibrary = "libnvidia-ml.so.1";
constexpr const char* kVariable = "FR_NVML_LIBRARY";

// The library, initialized. Its functions throw Error(kUnavailable) with its own words.
class Nvml {
 public:
  Nvml(void* library, std::string name);
  ~Nvml() { shutdown_(); }
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  unsigned Count() const;
  GpuInfo Gpu(unsigned index) const;

 private:
  template <typename Function>
  void Bind(void* library, const char* symbol, Function** function) const;
  void Check(NvmlReturn code, const std::string& what) const;

  std::string name_;
  NvmlReturn (*init_)() = nullptr;
  NvmlReturn (*shutdown_)() = nullptr;
  const char* (*error_string_)(NvmlReturn) = nullptr;
  NvmlReturn (*count_)(unsigned*) = nullptr;
  NvmlReturn (*handle_)(unsigned, NvmlDevice**) = nullptr;
  NvmlReturn (*device_name_)(NvmlDevice*, char*, unsigned) = nullptr;
  NvmlReturn (*uuid_)(NvmlDevice*, char*, unsigned) = nullptr;
  NvmlReturn (*memory_)(NvmlDevice*, NvmlMemory*) = nullptr;
  NvmlReturn (*capability_)(NvmlDevice*, int*, int*) = nullptr;
};

Nvml::Nvml(void* library, std::string name) : name_(std::move(name)) {
  Bind(library, "nvmlInit_v2", &init_);
  Bind(library, "nvmlShutdown", &shutdown_);
  Bind(library, "nvmlErrorString", &error_string_);
  Bind(library, "nvmlDeviceGetCount_v2", &count_);
  Bind(library, "nvmlDeviceGetHandleByIndex_v2", &handle_);
  Bind(library, "nvmlDeviceGetName", &device_name_);
  Bind(library, "nvmlDeviceGetUUID", &uuid_);
  Bind(library, "nvmlDeviceGetMemoryInfo", &memory_);
  Bind(library, "nvmlDeviceGetCudaComputeCapability", &capability_);
  Check(init_(), "nvmlInit_v2");
}

template <typename Function>
void Nvml::Bind(void* library, const char* symbol, Function** function) const {
  *function = reinterpret_cast<Function*>(dlsym(library, symbol));
  if (*function == nullptr) {
    throw Error(ErrorCode::kUnavailable, fmt::format("{}: no {} there", name_, symbol));
  }
}

void Nvml::Check(NvmlReturn code, const std::string& what) const {
  if (code == kNvmlSuccess) return;
  throw Error(ErrorCode::kUnavailable, fmt::format("{}: {}: {}", name_, what, error_string_(code)));
}

unsigned Nvml::Count() const {
  unsigned count = 0;
  Check(count_(&count), "nvmlDeviceGetCount_v2");
  return count;
}

GpuInfo Nvml::Gpu(unsigned index) const {
  const std::string what = fmt::format("GPU {}", index);
  GpuInfo gpu;
  gpu.index = static_cast<int>(index);
  NvmlDevice* device = nullptr;
  std::array<char, kTextBytes> text{};
  const auto size = static_cast<unsigned>(text.size());
  Check(handle_(index, &device), what);
  Check(device_name_(device, text.data(), size), what);
  gpu.name = text.data();
  Check(uuid_(device, text.data(), size), what);
  gpu.uuid = text.data();
  // Not every GPU has these, and it is one nevertheless.
  NvmlMemory memory{};
  if (memory_(device, &memory) == kNvmlSuccess) {
    gpu.memory_bytes = static_cast<std::int64_t>(memory.total);
    gpu.memory_free_bytes = static_cast<std::int64_t>(memory.free);
  }
  if (capability_(device, &gpu.compute_major, &gpu.compute_minor) != kNvmlSuccess) {
    gpu.compute_major = gpu.compute_minor = 0;
  }
  return gpu;
}

struct CloseLibrary {
  void operator()(void* library) const { dlclose(library); }
};

// Null: there is none, which a machine without GPUs need not have. Throws Error(kNotFound) for one
// that was asked for by name.
std::unique_ptr<void, CloseLibrary> Load(const std::string& name) {
  std::unique_ptr<void, CloseLibrary> library(dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL));
  if (library == nullptr && name != kUsualLibrary) {
    throw Error(ErrorCode::kNotFound, fmt::format("{}: {}", kVariable, dlerror()));
  }
  return library;
}

std::vector<GpuInfo> GpusOf(const Nvml& nvml, std::string* trouble) {
  std::vector<GpuInfo> gpus;
  const unsigned count = nvml.Count();
  for (unsigned index = 0; index < count; ++index) {
    try {
      gpus.push_back(nvml.Gpu(index));
    } catch (const Error& error) {
      *trouble += (trouble->empty() ? "" : "; ") + std::string(error.what());
    }
  }
  return gpus;
}

}  // namespace

std::vector<GpuInfo> FindGpus(std::string* trouble) {
  std::string ignored;
  if (trouble == nullptr) trouble = &ignored;
  trouble->clear();
  const char* named = std::getenv(kVariable);
  const std::string name = named != nullptr && *named != '\0' ? named : kUsualLibrary;
  try {
    const auto library = Load(name);
    if (library == nullptr) return {};
    return GpusOf(Nvml(library.get(), name), trouble);
  } catch (const Error& error) {
    *trouble = error.what();
    return {};
  }
}

}  // namespace fr
