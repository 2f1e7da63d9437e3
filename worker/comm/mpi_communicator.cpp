#include "worker/comm/mpi_communicator.h"

#include <algorithm>
#include <exception>
#include <utility>

#include <fmt/format.h>

#include "common/base/error.h"
#include "worker/comm/communication_thread.h"
#include "worker/comm/mpi_group.h"
#include "worker/comm/rank_messages.h"
#include "worker/comm/rank_order_sum.h"
#include "worker/comm/rows.h"

namespace fr {
namespace {

// MPI counts are int: longer messages go in pieces of this many elements.
constexpr std::int64_t kPieceElements = 1 << 28;

constexpr MpiGroup::Nap kSpin{0};
// Of gradients that travel beside computation: docs/scaling.md has what others gave.
constexpr MpiGroup::Nap kThreadNap{200};
// Of work that has time.
constexpr MpiGroup::Nap kPatientNap{1000};

void RequireMemory(const at::Tensor& tensor, const char* collective) {
  if (tensor.device().is_cpu() && tensor.is_contiguous()) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{}: a contiguous CPU tensor is needed", collective));
}

[[noreturn]] void RefuseType(const at::Tensor& tensor, const char* collective) {
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{}: tensors of {} are not supported", collective,
                          at::toString(tensor.scalar_type())));
}

// What can be added and compared.
MPI_Datatype NumberType(const at::Tensor& tensor, const char* collective) {
  RequireMemory(tensor, collective);
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
      RefuseType(tensor, collective);
  }
}

// What can be carried.
MPI_Datatype CarriedType(const at::Tensor& tensor, const char* collective) {
  if (tensor.scalar_type() != at::kBFloat16) return NumberType(tensor, collective);
  RequireMemory(tensor, collective);
  return MPI_UINT16_T;
}

void AllReduce(MpiGroup& group, at::Tensor& tensor, MPI_Op operation) {
  MPI_Datatype type = NumberType(tensor, "all-reduce");
  auto* data = static_cast<char*>(tensor.mutable_data_ptr());
  const std::int64_t total = tensor.numel();
  for (std::int64_t done = 0; done < total; done += kPieceElements) {
    const auto count = static_cast<int>(std::min(kPieceElements, total - done));
    group.AllReduce(data + done * tensor.element_size(), count, type, operation);
  }
}

}  // namespace

MpiSession::MpiSession(int* argc, char*** argv) {
  int provided = 0;
  CheckMpi(MPI_Init_thread(argc, argv, MPI_THREAD_MULTIPLE, &provided), "MPI_Init_thread", -1);
  if (provided < MPI_THREAD_MULTIPLE) {
    throw Error(ErrorCode::kUnavailable,
                "this MPI library does not offer MPI_THREAD_MULTIPLE, which communication beside "
                "computation needs: take one that was built with it (Open MPI 4 or newer is; "
                "`ompi_info | grep -i thread` says)");
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

MpiCommunicator::MpiCommunicator() : group_(std::make_unique<MpiGroup>(MPI_COMM_WORLD, kSpin)) {
  host_ = HostOf(*group_);
}

MpiCommunicator::MpiCommunicator(Self) : group_(std::make_unique<MpiGroup>(MPI_COMM_SELF, kSpin)) {}

MpiCommunicator::MpiCommunicator(std::unique_ptr<MpiGroup> group, const MpiCommunicator& like)
    : group_(std::move(group)), host_(like.host_), deterministic_(like.deterministic_) {}

MpiCommunicator::~MpiCommunicator() {
  if (thread_group_ && std::uncaught_exceptions() > 0) thread_group_->Abandon();
}

MpiCommunicator::Host MpiCommunicator::HostOf(const MpiGroup& group) {
  MPI_Comm here = MPI_COMM_NULL;
  CheckMpi(MPI_Comm_split_type(group.comm(), MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &here),
           "MPI_Comm_split_type", group.rank());
  Host host;
  MPI_Comm_size(here, &host.ranks);
  MPI_Comm_rank(here, &host.rank);
  MPI_Comm_free(&here);
  return host;
}

int MpiCommunicator::rank() const { return group_->rank(); }

int MpiCommunicator::world_size() const { return group_->size(); }

void MpiCommunicator::AllReduceSum(at::Tensor& tensor) {
  if (deterministic_ && tensor.is_floating_point()) {
    NumberType(tensor, "all-reduce");
    if (tensor.scalar_type() == at::kFloat) {
      AllReduceInRankOrder(*group_, tensor.mutable_data_ptr<float>(), tensor.numel(),
                           Wire::kFloat32);
    } else {
      AllReduceInRankOrder(*group_, tensor.mutable_data_ptr<double>(), tensor.numel());
    }
    return;
  }
  AllReduce(*group_, tensor, MPI_SUM);
}

void MpiCommunicator::AllReduceMax(at::Tensor& tensor) { AllReduce(*group_, tensor, MPI_MAX); }

std::unique_ptr<PendingCollective> MpiCommunicator::StartAllReduceSum(at::Tensor tensor,
                                                                      Wire wire) {
  RequireMemory(tensor, "all-reduce");
  if (tensor.scalar_type() != at::kFloat) RefuseType(tensor, "all-reduce beside computation");
  if (!thread_) {
    thread_group_ = std::make_unique<MpiGroup>(group_->comm(), kThreadNap);
    thread_ = std::make_unique<CommunicationThread>();
  }
  return thread_->Post([group = thread_group_.get(), tensor = std::move(tensor), wire] {
    AllReduceInRankOrder(*group, tensor.mutable_data_ptr<float>(), tensor.numel(), wire);
  });
}

at::Tensor MpiCommunicator::AllGatherRows(const at::Tensor& local,
                                          const std::vector<std::int64_t>& rows_per_rank) {
  CheckRows(local, rows_per_rank.at(rank()), "all-gather", rank());
  MPI_Datatype type = CarriedType(local, "all-gather");
  const Layout layout = LayoutOf(rows_per_rank, RowElements(local), "all-gather");
  at::Tensor all = at::empty(SizesWithRows(local, SumOfRows(rows_per_rank)), local.options());
  group_->AllGather(local.const_data_ptr(), all.mutable_data_ptr(), layout, type);
  return all;
}

at::Tensor MpiCommunicator::ReduceScatterRows(const at::Tensor& full,
                                              const std::vector<std::int64_t>& rows_per_rank) {
  CheckRows(full, SumOfRows(rows_per_rank), "reduce-scatter", rank());
  MPI_Datatype type = NumberType(full, "reduce-scatter");
  const Layout layout = LayoutOf(rows_per_rank, RowElements(full), "reduce-scatter");
  at::Tensor local = at::empty(SizesWithRows(full, rows_per_rank.at(rank())), full.options());
  if (deterministic_ && full.scalar_type() == at::kFloat) {
    ReduceScatterInRankOrder(*group_, full.const_data_ptr<float>(), local.mutable_data_ptr<float>(),
                             layout);
  } else if (deterministic_ && full.scalar_type() == at::kDouble) {
    ReduceScatterInRankOrder(*group_, full.const_data_ptr<double>(),
                             local.mutable_data_ptr<double>(), layout);
  } else {
    group_->ReduceScatter(full.const_data_ptr(), local.mutable_data_ptr(), layout, type);
  }
  return local;
}

void MpiCommunicator::BroadcastPieces(void* bytes, std::int64_t size, int root) {
  for (std::int64_t done = 0; done < size; done += kPieceElements) {
    const auto count = static_cast<int>(std::min(kPieceElements, size - done));
    group_->Broadcast(static_cast<char*>(bytes) + done, count, MPI_BYTE, root);
  }
}

void MpiCommunicator::Broadcast(at::Tensor& tensor, int root) {
  CarriedType(tensor, "broadcast");
  BroadcastPieces(tensor.mutable_data_ptr(), tensor.numel() * tensor.element_size(), root);
}

std::string MpiCommunicator::BroadcastBytes(const std::string& bytes, int root) {
  auto size = static_cast<std::int64_t>(bytes.size());
  BroadcastPieces(&size, sizeof(size), root);
  std::string result = rank() == root ? bytes : std::string(size, '\0');
  BroadcastPieces(result.data(), size, root);
  return result;
}

std::vector<std::string> MpiCommunicator::GatherBytes(const std::string& bytes, int root) {
  const std::vector<std::int64_t> sizes = AllGather(static_cast<std::int64_t>(bytes.size()));
  const Layout layout = LayoutOf(sizes, 1, "gather");
  std::string all(rank() == root ? SumOfRows(sizes) : 0, '\0');
  group_->Gather(bytes.data(), all.data(), layout, MPI_BYTE, root);
  std::vector<std::string> parts;
  for (std::size_t i = 0; rank() == root && i < sizes.size(); ++i) {
    parts.push_back(all.substr(layout.offsets[i], layout.counts[i]));
  }
  return parts;
}

std::vector<std::int64_t> MpiCommunicator::AllGather(std::int64_t value) {
  std::vector<std::int64_t> values(world_size());
  const Layout one_each = LayoutOf(std::vector<std::int64_t>(values.size(), 1), 1, "all-gather");
  group_->AllGather(&value, values.data(), one_each, MPI_INT64_T);
  return values;
}

void MpiCommunicator::Barrier() { group_->Barrier(); }

std::unique_ptr<RankMessages> MpiCommunicator::NewMessages() const {
  return std::make_unique<RankMessages>(group_->comm());
}

std::unique_ptr<Communicator> MpiCommunicator::Duplicate() {
  auto group = std::make_unique<MpiGroup>(group_->comm(), kPatientNap);
  return std::unique_ptr<Communicator>(new MpiCommunicator(std::move(group), *this));
}

}  // namespace fr
