#pragma once
// First weights of the head, by identity: the same on any number of ranks.

#include <cstdint>

namespace fr {

// Fills row[0, size) with normal(0, sigma) numbers that depend on (seed, identity, column) only;
// its columns are first_column, first_column + 1, ...
void InitialRow(std::uint64_t seed, std::int64_t identity, double sigma, std::int64_t first_column,
                float* row, std::int64_t size);

}  // namespace fr
