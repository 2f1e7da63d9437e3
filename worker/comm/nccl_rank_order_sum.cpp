#include "worker/comm/nccl_rank_order_sum.h"

#include <algorithm>
#include <cstddef>

#include <fmt/format.h>

#include "common/base/error.h"
#include "worker/comm/rows.h"

namespace fr {
namespace {

// Bounds the memory; large enough that a launch does not matter.
constexpr std::int64_t kPieceElements = std::int64_t{16} << 20;

char* At(const at::Tensor& tensor, std::int64_t element) {
  return static_cast<char*>(tensor.mutable_data_ptr()) + element * tensor.element_size();
}

std::int64_t Before(const std::vector<std::int64_t>& parts, int rank) {
  std::int64_t sum = 0;
  for (int i = 0; i < rank; ++i) sum += parts[static_cast<std::size_t>(i)];
  return sum;
}

// Part `rank` of every rank's `flat` -> [ranks, parts[rank]].
at::Tensor ExchangeParts(const NcclExchange& exchange, const at::Tensor& flat,
                         const std::vector<std::int64_t>& parts) {
  const std::int64_t own = parts[static_cast<std::size_t>(exchange.rank)];
  const NcclType type = CarriedNcclType(flat, "all-to-all");
  at::Tensor received = at::empty({exchange.ranks, own}, flat.options());
  exchange.run([&](const NcclApi& api, NcclComm comm) {
    NcclStatus status = kNcclSuccess;
    std::int64_t begin = 0;
    for (int rank = 0; rank < exchange.ranks && status == kNcclSuccess; ++rank) {
      const std::int64_t its = parts[static_cast<std::size_t>(rank)];
      if (its > 0) {
        status = api.send(At(flat, begin), static_cast<std::size_t>(its), type, rank, comm,
                          exchange.stream);
      }
      if (own > 0 && status == kNcclSuccess) {
        status = api.receive(At(received, rank * own), static_cast<std::size_t>(own), type, rank,
                             comm, exchange.stream);
      }
      begin += its;
    }
    return status;
  });
  return received;
}

// parts [ranks, n], added in this order; bfloat16 in float32.
at::Tensor AddInOrder(const at::Tensor& parts) {
  at::Tensor sum = parts[0];
  if (sum.scalar_type() == at::kBFloat16) sum = sum.to(at::kFloat);
  for (std::int64_t rank = 1; rank < parts.size(0); ++rank) sum.add_(parts[rank]);
  return sum;
}

void SumPiece(const NcclExchange& exchange, const at::Tensor& piece, Wire wire) {
  const std::vector<std::int64_t> chunks = EvenParts(piece.numel(), exchange.ranks);
  const bool rounds = wire == Wire::kBFloat16;
  const at::Tensor sent = rounds ? piece.to(at::kBFloat16) : piece;
  const std::int64_t begin = Before(chunks, exchange.rank);
  const at::Tensor own =
      sent.slice(0, begin, begin + chunks[static_cast<std::size_t>(exchange.rank)]);
  own.copy_(AddInOrder(ExchangeParts(exchange, sent, chunks)));
  NcclGatherParts(exchange, own, sent, chunks);
  if (rounds) piece.copy_(sent);
}

}  // namespace

NcclType CarriedNcclType(const at::Tensor& tensor, const char* collective) {
  if (!tensor.is_contiguous()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: a contiguous tensor is needed", collective));
  }
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return NcclType::kFloat32;
    case at::kDouble:
      return NcclType::kFloat64;
    case at::kLong:
      return NcclType::kInt64;
    case at::kByte:
      return NcclType::kUInt8;
    case at::kBFloat16:
      return NcclType::kBFloat16;
    default:
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{}: tensors of {} are not supported", collective,
                              at::toString(tensor.scalar_type())));
  }
}

void NcclAllReduceInRankOrder(const NcclExchange& exchange, const at::Tensor& tensor, Wire wire) {
  if (exchange.ranks == 1) return;
  const at::NoGradGuard no_grad;
  const at::Tensor flat = tensor.view({-1});
  for (std::int64_t done = 0; done < flat.numel(); done += kPieceElements) {
    SumPiece(exchange, flat.slice(0, done, std::min(done + kPieceElements, flat.numel())), wire);
  }
}

at::Tensor NcclReduceScatterInRankOrder(const NcclExchange& exchange, const at::Tensor& flat,
                                        const std::vector<std::int64_t>& parts) {
  const at::NoGradGuard no_grad;
  // A copy: the sum is the first row of a larger tensor.
  return AddInOrder(ExchangeParts(exchange, flat, parts)).clone();
}

void NcclGatherParts(const NcclExchange& exchange, const at::Tensor& own, const at::Tensor& all,
                     const std::vector<std::int64_t>& parts) {
  const NcclType type = CarriedNcclType(all, "all-gather");
  if (all.numel() == 0) return;
  exchange.run([&](const NcclApi& api, NcclComm comm) {
    if (AllEqual(parts)) {
      return api.all_gather(own.const_data_ptr(), all.mutable_data_ptr(),
                            static_cast<std::size_t>(parts[0]), type, comm, exchange.stream);
    }
    NcclStatus status = kNcclSuccess;
    std::int64_t begin = 0;
    for (int rank = 0; rank < exchange.ranks && status == kNcclSuccess; ++rank) {
      const std::int64_t its = parts[static_cast<std::size_t>(rank)];
      if (its > 0) {
        char* there = At(all, begin);
        const void* from = rank == exchange.rank ? own.const_data_ptr() : there;
        status = api.broadcast(from, there, static_cast<std::size_t>(its), type, rank, comm,
                               exchange.stream);
      }
      begin += its;
    }
    return status;
  });
}

}  // namespace fr
