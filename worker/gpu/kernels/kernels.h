#pragma once
// The functions of GpuKernels (gpu_kernels.h), for the device that simt.h is of.

#include <simt.h>

#include "worker/gpu/gpu_kernels.h"

namespace fr::FR_GPU {

void NarrowRows(const GpuNarrowRows& work, GpuStream stream);
void Narrow(const float* x, std::int64_t rows, std::int64_t columns_in, const GpuOperand& out,
            GpuStream stream);
void TargetLogits(const GpuTargetLogits& work, GpuStream stream);
void Softmax(const GpuSoftmax& work, GpuStream stream);
void MergeSoftmax(const GpuSoftmaxMerge& work, GpuStream stream);
void Coefficients(const GpuCoefficients& work, GpuStream stream);
void RowSums(const GpuRowSums& work, GpuStream stream);
void EmbeddingGradients(const GpuEmbeddingGradients& work, GpuStream stream);
void RowProducts(const GpuRowProducts& work, GpuStream stream);
void MoveRows(const GpuRowMoves& work, GpuStream stream);
void RowSquares(const GpuRowSquares& work, GpuStream stream);
void SumParts(const GpuSumParts& work, GpuStream stream);
void Sample(const GpuSample& work, GpuStream stream);

void MomentsOf(const GpuMoments& work, const GpuNormStatistics* then, GpuStream stream);
void NormStatistics(const GpuNormStatistics& work, GpuStream stream);
void ForwardNorm(const NormForward& work, std::int64_t rows, GpuStream stream);
void ForwardSumNorm(const SumNorm& work, std::int64_t rows, GpuStream stream);
void NormBackwardSums(const GpuNormBackwardSums& work, const GpuNormGradients* then,
                      GpuStream stream);
void NormGradients(const GpuNormGradients& work, GpuStream stream);
void NormBackwardInput(const NormBackward& work, std::int64_t rows, GpuStream stream);

void MomentumPass(const GpuMomentumPass& work, GpuStream stream);
void AdamPass(const GpuAdamPass& work, GpuStream stream);
void MoveTowards(float* average, const float* w, std::int64_t size, float share, GpuStream stream);
void SumSquares(const float* x, std::int64_t size, double* parts, GpuStream stream);
void PieceSquares(const GpuPieces& pieces, const float* a, const float* b, double* squares,
                  GpuStream stream);

void Mine(const GpuMining& work, GpuStream stream);
void Pixels(const GpuPixels& work, GpuStream stream);

// All of them.
extern const GpuKernels kKernels;

}  // namespace fr::FR_GPU
