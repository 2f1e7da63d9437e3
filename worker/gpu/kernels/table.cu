#include "worker/gpu/kernels/kernels.h"

namespace fr::FR_GPU {

const GpuKernels kKernels = {
    FR_GPU_NAME,      NarrowRows,    Narrow,
    TargetLogits,     Softmax,       MergeSoftmax,
    Coefficients,     RowSums,       EmbeddingGradients,
    RowProducts,      MoveRows,      RowSquares,
    SumParts,         Sample,        MomentsOf,
    NormStatistics,   ForwardNorm,   ForwardSumNorm,
    NormBackwardSums, NormGradients, NormBackwardInput,
    MomentumPass,     AdamPass,      MoveTowards,
    SumSquares,       PieceSquares,  Mine,
    Pixels,
};

}  // namespace fr::FR_GPU
