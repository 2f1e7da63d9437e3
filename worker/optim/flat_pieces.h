#pragma once
// A flat buffer cut into pieces, for passes over it by several threads.

#include <cstddef>
#include <cstdint>
#include <vector>

#include <ATen/Parallel.h>

#include "worker/gpu/gpu_kernels.h"
#include "worker/optim/flat_parameters.h"

namespace fr {

// float32 on ComputeDevice(): a number for each parameter, on its way to a kernel.
at::Tensor ToGpu(const std::vector<double>& values);

// The buffer is cut where a parameter ends, and every kCellElements: a piece is of one parameter,
// and threads share the work evenly however large parameters are. Where it is cut has nothing to do
// with the number of threads, so neither have sums by piece.
class FlatPieces {
 public:
  struct Piece {
    std::int64_t begin = 0;  // elements [begin, end) of the buffer
    std::int64_t end = 0;
    std::size_t parameter = 0;  // index of the entry
  };
  explicit FlatPieces(const std::vector<FlatParameters::Entry>& entries);

  std::size_t size() const { return pieces_.size(); }
  const Piece& operator[](std::size_t index) const { return pieces_[index]; }

  // call(index) for every piece, once, by whichever thread.
  template <class Call>
  void ForEach(const Call& call) const {
    const auto cells = static_cast<std::int64_t>(first_of_cell_.size()) - 1;
    at::parallel_for(0, cells, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::size_t i = first_of_cell_[static_cast<std::size_t>(begin)];
           i < first_of_cell_[static_cast<std::size_t>(end)]; ++i) {
        call(i);
      }
    });
  }

  // For kernels of the GPU that ComputeDevice() is.
  GpuPieces OnGpu() const;

 private:
  std::vector<Piece> pieces_;
  std::vector<std::size_t> first_of_cell_;  // and behind the last one, how many pieces there are
  at::Tensor begin_, end_, parameter_;      // on the GPU; undefined without one
};

}  // namespace fr
