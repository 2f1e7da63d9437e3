// 32 registers of 16 values.
#define FR_KERNELS kAvx512BackboneKernels
#define FR_KERNELS_NAME "avx512"
#define FR_VECTOR_BYTES 64
#include "worker/backbones/kernels/backbone_kernels.inc"
