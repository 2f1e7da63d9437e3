// What every x86-64 and ARM processor has.
#define FR_KERNELS kPortableBackboneKernels
#define FR_KERNELS_NAME "portable"
#define FR_VECTOR_BYTES 16
#include "worker/backbones/kernels/backbone_kernels.inc"
