#include "worker/comm/communicator.h"

#include <algorithm>
#include <exception>
#include <limits>
#include <numeric>

#include <fmt/format.h>
#include <mpi.h>

#include "common/base/error.h"

namespace fr {
namespace {

// MPI counts are int: longer messages go in pieces of this many elements.
constexpr std::int64_t kPieceElements = 1 << 28;

void Check(int status, const char* collective, int rank) {
  if (status == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(status, text, &length);
  throw Error(ErrorCode::kUnavailable,
              fmt::format("{} failed on rank {}: {}", collective, rank, std::string(text, length)));
}

MPI_Datatype DatatypeOf(const at::Tensor& tensor, const char* collective) {
  if (!tensor.device().is_cpu() || !tensor.is_contiguous()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: a contiguous CPU tensor is needed", collective));
  }
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return MPI_FLOAT;
    case at::kDouble:
      return MPI_DOUBLE;
    case at::kLong:
      return MPI_INT64_T;
    case at::kByte:
      return MPI_UINT8_T;
    default:
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{}: tensors of {} are not supported", collective,
                              at::toString(tensor.scalar_type())));
  }
}

// Where each rank's part of `rows` rows of `row_elements` begins, and how long it is, in elements.
struct Layout {
  std::vector<int> counts;
  std::vector<int> offsets;
};

Layout LayoutOf(const std::vector<std::int64_t>& rows_per_rank, std::int64_t row_elements,
                const char* collective) {
  Layout layout;
  std::int64_t total = 0;
  for (const std::int64_t rows : rows_per_rank) {
    layout.counts.push_back(static_cast<int>(rows * row_elements));
    layout.offsets.push_back(static_cast<int>(total));
    total += rows * row_elements;
    if (total > std::numeric_limits<int>::max()) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{}: more than 2^31 elements in one global batch", collective));
    }
  }
  return layout;
}

std::int64_t RowElements(const at::Tensor& tensor) {
  std::int64_t elements = 1;
  for (std::int64_t dim = 1; dim < tensor.dim(); ++dim) elements *= tensor.size(dim);
  return elements;
}

std::vector<std::int64_t> WithRows(const at::Tensor& tensor, std::int64_t rows) {
  std::vector<std::int64_t> sizes = tensor.sizes().vec();
  sizes[0] = rows;
  return sizes;
}

void CheckRows(const at::Tensor& tensor, std::int64_t expected, const char* collective, int rank) {
  if (tensor.dim() < 1 || tensor.size(0) != expected) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: rank {} has {} rows where {} were agreed", collective, rank,
                            tensor.dim() < 1 ? 0 : tensor.size(0), expected));
  }
}

std::int64_t Sum(const std::vector<std::int64_t>& values) {
  return std::accumulate(values.begin(), values.end(), std::int64_t{0});
}

}  // namespace

MpiSession::MpiSession(int* argc, char*** argv) {
  int provided = 0;
  Check(MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread", -1);
  if (provided < MPI_THREAD_FUNNELED) {
    throw Error(ErrorCode::kUnavailable, "this MPI library cannot be used from a threaded program");
  }
}

MpiSession::~MpiSession() {
  if (std::uncaught_exceptions() > 0) Abort(1);
  MPI_Finalize();
}

void MpiSession::Abort(int exit_code) {
  MPI_Abort(MPI_COMM_WORLD, exit_code);
  std::abort();  // not reached: MPI_Abort does not return
}

struct Communicator::Impl {
  MPI_Comm comm = MPI_COMM_NULL;

  void AllReduce(at::Tensor& tensor, MPI_Op operation, int rank) const {
    MPI_Datatype type = DatatypeOf(tensor, "all-reduce");
    auto* data = static_cast<char*>(tensor.mutable_data_ptr());
    const std::int64_t total = tensor.numel();
    for (std::int64_t done = 0; done < total; done += kPieceElements) {
      const auto count = static_cast<int>(std::min(kPieceElements, total - done));
      Check(MPI_Allreduce(MPI_IN_PLACE, data + done * tensor.element_size(), count, type, operation,
                          comm),
            "all-reduce", rank);
    }
  }

  void BroadcastPieces(void* bytes, std::int64_t size, int root, int rank) const {
    for (std::int64_t done = 0; done < size; done += kPieceElements) {
      const auto count = static_cast<int>(std::min(kPieceElements, size - done));
      Check(MPI_Bcast(static_cast<char*>(bytes) + done, count, MPI_BYTE, root, comm), "broadcast",
            rank);
    }
  }
};

Communicator::Communicator() : impl_(std::make_unique<Impl>()) {
  Check(MPI_Comm_dup(MPI_COMM_WORLD, &impl_->comm), "MPI_Comm_dup", -1);
  MPI_Comm_set_errhandler(impl_->comm, MPI_ERRORS_RETURN);
  MPI_Comm_rank(impl_->comm, &rank_);
  MPI_Comm_size(impl_->comm, &world_size_);
  MPI_Comm here = MPI_COMM_NULL;
  Check(MPI_Comm_split_type(impl_->comm, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &here),
        "MPI_Comm_split_type", rank_);
  MPI_Comm_size(here, &ranks_on_this_host_);
  MPI_Comm_free(&here);
}

Communicator::Communicator(Self) : impl_(std::make_unique<Impl>()) {
  Check(MPI_Comm_dup(MPI_COMM_SELF, &impl_->comm), "MPI_Comm_dup", 0);
  MPI_Comm_set_errhandler(impl_->comm, MPI_ERRORS_RETURN);
}

Communicator::~Communicator() { MPI_Comm_free(&impl_->comm); }

void Communicator::AllReduceSum(at::Tensor& tensor) { impl_->AllReduce(tensor, MPI_SUM, rank_); }

void Communicator::AllReduceMax(at::Tensor& tensor) { impl_->AllReduce(tensor, MPI_MAX, rank_); }

at::Tensor Communicator::AllGatherRows(const at::Tensor& local,
                                       const std::vector<std::int64_t>& rows_per_rank) {
  CheckRows(local, rows_per_rank.at(rank_), "all-gather", rank_);
  MPI_Datatype type = DatatypeOf(local, "all-gather");
  const Layout layout = LayoutOf(rows_per_rank, RowElements(local), "all-gather");
  at::Tensor all = at::empty(WithRows(local, Sum(rows_per_rank)), local.options());
  Check(MPI_Allgatherv(local.const_data_ptr(), layout.counts[rank_], type, all.mutable_data_ptr(),
                       layout.counts.data(), layout.offsets.data(), type, impl_->comm),
        "all-gather", rank_);
  return all;
}

at::Tensor Communicator::ReduceScatterRows(const at::Tensor& full,
                                           const std::vector<std::int64_t>& rows_per_rank) {
  CheckRows(full, Sum(rows_per_rank), "reduce-scatter", rank_);
  MPI_Datatype type = DatatypeOf(full, "reduce-scatter");
  const Layout layout = LayoutOf(rows_per_rank, RowElements(full), "reduce-scatter");
  at::Tensor local = at::empty(WithRows(full, rows_per_rank.at(rank_)), full.options());
  Check(MPI_Reduce_scatter(full.const_data_ptr(), local.mutable_data_ptr(), layout.counts.data(),
                           type, MPI_SUM, impl_->comm),
        "reduce-scatter", rank_);
  return local;
}

void Communicator::Broadcast(at::Tensor& tensor, int root) {
  DatatypeOf(tensor, "broadcast");
  impl_->BroadcastPieces(tensor.mutable_data_ptr(), tensor.numel() * tensor.element_size(), root,
                         rank_);
}

std::string Communicator::BroadcastBytes(const std::string& bytes, int root) {
  auto size = static_cast<std::int64_t>(bytes.size());
  impl_->BroadcastPieces(&size, sizeof(size), root, rank_);
  std::string result = rank_ == root ? bytes : std::string(size, '\0');
  impl_->BroadcastPieces(result.data(), size, root, rank_);
  return result;
}

std::vector<std::string> Communicator::GatherBytes(const std::string& bytes, int root) {
  const std::vector<std::int64_t> sizes = AllGather(static_cast<std::int64_t>(bytes.size()));
  const Layout layout = LayoutOf(sizes, 1, "gather");
  std::string all(rank_ == root ? Sum(sizes) : 0, '\0');
  Check(MPI_Gatherv(bytes.data(), layout.counts[rank_], MPI_BYTE, all.data(), layout.counts.data(),
                    layout.offsets.data(), MPI_BYTE, root, impl_->comm),
        "gather", rank_);
  std::vector<std::string> parts;
  for (std::size_t i = 0; rank_ == root && i < sizes.size(); ++i) {
    parts.push_back(all.substr(layout.offsets[i], layout.counts[i]));
  }
  return parts;
}

std::vector<std::int64_t> Communicator::AllGather(std::int64_t value) {
  std::vector<std::int64_t> values(world_size_);
  Check(MPI_Allgather(&value, 1, MPI_INT64_T, values.data(), 1, MPI_INT64_T, impl_->comm),
        "all-gather", rank_);
  return values;
}

void Communicator::Barrier() { Check(MPI_Barrier(impl_->comm), "barrier", rank_); }

}  // namespace fr
