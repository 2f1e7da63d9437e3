#pragma once
// First weights of the head, by identity: the same on any number of ranks.

#include <cstdint>

namespace fr {

// Fills row[0, size) with normal(0, sigma) numbers that depend on (seed, identity, column) only.
void InitialRow(std::uint64_t seed, std::int64_t identity, double sigma, float* row,
                std::int64_t size);

}  // namespace fr
