#pragma once
// Tensors whose rows are spread over the ranks.

#include <cstdint>
#include <vector>

#include <torch/torch.h>

namespace fr {

std::int64_t SumOfRows(const std::vector<std::int64_t>& rows_per_rank);

// `count` of something in one part a rank, as even as it goes: the first ranks have one more.
std::vector<std::int64_t> EvenParts(std::int64_t count, int ranks);
bool AllEqual(const std::vector<std::int64_t>& parts);

// Of one row of [rows, ...].
std::int64_t RowElements(const at::Tensor& tensor);

// Sizes of `tensor`, with `rows` rows.
std::vector<std::int64_t> SizesWithRows(const at::Tensor& tensor, std::int64_t rows);

// Throws Error(kInvalidArgument) unless `tensor` has `expected` rows.
void CheckRows(const at::Tensor& tensor, std::int64_t expected, const char* collective, int rank);

}  // namespace fr
