// A libnvidia-ml.so.1 for machines without GPUs: as much of NVML as common/base/gpu_inventory.cpp
// asks. The environment's FR_FAKE_NVML says what it plays:
//
//   (not set)     two GPUs
//   no-gpus       a driver without GPUs
//   no-driver     a driver that is not loaded: nothing works
//   lost-gpu      the first of the two has fallen off the bus
//   shared-memory both without memory of their own, and without a compute capability
//
// It ends the process when it is used before nvmlInit_v2, or after nvmlShutdown.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID = 2, NOT_SUPPORTED = 3, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15 };

struct nvmlDevice_st {
  const char *name;
  const char *uuid;
  unsigned long long total, free;
  int major, minor;
};
struct nvmlMemory {
  unsigned long long total, free, used;
};

static struct nvmlDevice_st gpus[] = {
    {"NVIDIA H100 80GB HBM3", "GPU-00000000-0000-0000-0000-000000000001", 85520809984ULL,
     85000000000ULL, 9, 0},
    {"NVIDIA A100-SXM4-40GB", "GPU-00000000-0000-0000-0000-000000000002", 42949672960ULL,
     1000000000ULL, 8, 0},
};
static int users;

static int plays(const char *what) {
  const char *role = getenv("FR_FAKE_NVML");
  return role != NULL && strcmp(role, what) == 0;
}

static void require_init(void) {
  if (users > 0) return;
  fprintf(stderr, "fake_nvml: used outside of nvmlInit_v2 and nvmlShutdown\n");
  abort();
}

static int copy(const char *text, char *to, unsigned size) {
  if (strlen(text) >= size) return INVALID;
  strcpy(to, text);
  return SUCCESS;
}

int nvmlInit_v2(void) {
  if (plays("no-driver")) return DRIVER_NOT_LOADED;
  ++users;
  return SUCCESS;
}

int nvmlShutdown(void) {
  require_init();
  --users;
  return SUCCESS;
}

const char *nvmlErrorString(int code) {
  return code == DRIVER_NOT_LOADED ? "Driver Not Loaded"
         : code == GPU_IS_LOST     ? "GPU is lost"
                                   : "Unknown Error";
}

int nvmlDeviceGetCount_v2(unsigned *count) {
  require_init();
  *count = plays("no-gpus") ? 0 : 2;
  return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct nvmlDevice_st **device) {
  require_init();
  if (index >= 2) return INVALID;
  if (index == 0 && plays("lost-gpu")) return GPU_IS_LOST;
  *device = &gpus[index];
  return SUCCESS;
}

int nvmlDeviceGetName(struct nvmlDevice_st *device, char *name, unsigned size) {
  require_init();
  return copy(device->name, name, size);
}

int nvmlDeviceGetUUID(struct nvmlDevice_st *device, char *uuid, unsigned size) {
  require_init();
  return copy(device->uuid, uuid, size);
}

int nvmlDeviceGetMemoryInfo(struct nvmlDevice_st *device, struct nvmlMemory *memory) {
  require_init();
  if (plays("shared-memory")) return NOT_SUPPORTED;
  memory->total = device->total;
  memory->free = device->free;
  memory->used = device->total - device->free;
  return SUCCESS;
}

int nvmlDeviceGetCudaComputeCapability(struct nvmlDevice_st *device, int *major, int *minor) {
  require_init();
  if (plays("shared-memory")) return NOT_SUPPORTED;
  *major = device->major;
  *minor = device->minor;
  return SUCCESS;
}
