// 32 registers of 16 values; rounding to bfloat16 in one instruction.
#define FR_KERNELS kAvx512BF16BackboneKernels
#define FR_KERNELS_NAME "avx512_bf16"
#define FR_VECTOR_BYTES 64
#include "worker/backbones/kernels/backbone_kernels.inc"
