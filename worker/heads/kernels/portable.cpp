// What every x86-64 and ARM processor has.
#define FR_KERNELS kPortableHeadKernels
#define FR_KERNELS_NAME "portable"
#define FR_VECTOR_BYTES 16
#define FR_ROWS 6
#define FR_VECTORS 2
#define FR_SAMPLES 4
#define FR_WIDE_VECTORS 2
#include "worker/heads/kernels/head_kernels.inc"
