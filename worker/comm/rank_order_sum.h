#pragma once
// Sums over ranks by an exchange of our own: every element is added in rank order, on the one rank
// that its chunk belongs to, and every rank receives that rank's bits. MPI leaves the order to its
// algorithms, which differ by size and version, and only advises that ranks agree.
//
// Of n bytes each rank sends and receives (p - 1) / p n to add them up, and as much to share the
// sums: as a ring does, in two rounds instead of 2 (p - 1).

#include <cstdint>

#include "worker/comm/communicator.h"
#include "worker/comm/mpi_group.h"

namespace fr {

// In place. Large ones go in pieces of 4 MiB, which bounds the memory for it.
void AllReduceInRankOrder(MpiGroup& group, float* data, std::int64_t count, Wire wire);
void AllReduceInRankOrder(MpiGroup& group, double* data, std::int64_t count);

// The sums of this rank's part of `layout`.
void ReduceScatterInRankOrder(MpiGroup& group, const float* full, float* own, const Layout& layout);
void ReduceScatterInRankOrder(MpiGroup& group, const double* full, double* own,
                              const Layout& layout);

// Nearest bfloat16, ties to even; NaN stays NaN.
void RoundToBFloat16(const float* values, std::int64_t count, std::uint16_t* rounded);

}  // namespace fr
