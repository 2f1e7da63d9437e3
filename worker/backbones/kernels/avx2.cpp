// 16 registers of 8 values.
#define FR_KERNELS kAvx2BackboneKernels
#define FR_KERNELS_NAME "avx2"
#define FR_VECTOR_BYTES 32
#include "worker/backbones/kernels/backbone_kernels.inc"
