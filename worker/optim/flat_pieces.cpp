#include "worker/optim/flat_pieces.h"

#include <algorithm>

#include <c10/util/accumulate.h>
#include <torch/torch.h>

#include "worker/gpu/gpu.h"

namespace fr {
namespace {

// Long enough to make a piece's start cost nothing, short enough for many threads to share evenly.
constexpr std::int64_t kCellElements = 16 * 1024;

}  // namespace

at::Tensor ToGpu(const std::vector<double>& values) {
  return torch::tensor(values, at::kDouble).to(at::kFloat).to(ComputeDevice());
}

FlatPieces::FlatPieces(const std::vector<FlatParameters::Entry>& entries) {
  for (std::size_t parameter = 0; parameter < entries.size(); ++parameter) {
    const std::int64_t first = entries[parameter].offset;
    const std::int64_t last = first + c10::multiply_integers(entries[parameter].sizes);
    for (std::int64_t begin = first; begin < last;) {
      if (begin % kCellElements == 0) first_of_cell_.push_back(pieces_.size());
      const std::int64_t cell_end = (begin / kCellElements + 1) * kCellElements;
      pieces_.push_back({begin, std::min(last, cell_end), parameter});
      begin = pieces_.back().end;
    }
  }
  first_of_cell_.push_back(pieces_.size());
  if (ProcessGpu() == nullptr) return;
  begin_ = at::empty({static_cast<std::int64_t>(pieces_.size())}, at::kLong);
  end_ = at::empty_like(begin_);
  parameter_ = at::empty_like(begin_, at::kInt);
  for (std::size_t i = 0; i < pieces_.size(); ++i) {
    begin_.mutable_data_ptr<std::int64_t>()[i] = pieces_[i].begin;
    end_.mutable_data_ptr<std::int64_t>()[i] = pieces_[i].end;
    parameter_.mutable_data_ptr<std::int32_t>()[i] =
        static_cast<std::int32_t>(pieces_[i].parameter);
  }
  for (at::Tensor* tensor : {&begin_, &end_, &parameter_}) *tensor = tensor->to(ComputeDevice());
}

GpuPieces FlatPieces::OnGpu() const {
  return {begin_.const_data_ptr<std::int64_t>(), end_.const_data_ptr<std::int64_t>(),
          parameter_.const_data_ptr<std::int32_t>(), static_cast<std::int64_t>(pieces_.size())};
}

}  // namespace fr
