// 16 registers of 8 values.
#define FR_KERNELS kAvx2HeadKernels
#define FR_KERNELS_NAME "avx2"
#define FR_VECTOR_BYTES 32
#define FR_ROWS 6
#define FR_VECTORS 2
#define FR_SAMPLES 4
#define FR_WIDE_VECTORS 3
#include "worker/heads/kernels/head_kernels.inc"
