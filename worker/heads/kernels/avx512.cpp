// 32 registers of 16 values.
#define FR_KERNELS kAvx512HeadKernels
#define FR_KERNELS_NAME "avx512"
#define FR_VECTOR_BYTES 64
#define FR_ROWS 6
#define FR_VECTORS 4
#define FR_SAMPLES 8
#define FR_WIDE_VECTORS 3
#include "worker/heads/kernels/head_kernels.inc"
