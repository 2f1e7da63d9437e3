#include "worker/heads/global_batch.h"

#include <numeric>

#include "worker/comm/communicator.h"
#include "worker/heads/finite.h"

namespace fr {
namespace {

constexpr std::int64_t kNormBytes = 4;
constexpr std::int64_t kLabelBytes = 8;

// [n, 4 D + 12] uint8.
at::Tensor Pack(const OwnSamples& own) {
  const std::int64_t n = own.x.size(0);
  const auto bytes = [n](const at::Tensor& tensor) {
    return tensor.contiguous().view({n, -1}).view(at::kByte);
  };
  if (n == 0) {
    return at::empty({0, 4 * own.x.size(1) + kNormBytes + kLabelBytes},
                     own.x.options().dtype(at::kByte));
  }
  return at::cat({bytes(own.x), bytes(own.norms), bytes(own.labels.to(own.x.device()))}, 1);
}

// Columns [begin, end) as values of `type`: a copy of its own, which begins where a value of any
// type may begin.
at::Tensor Part(const at::Tensor& bytes, std::int64_t begin, std::int64_t end,
                at::ScalarType type) {
  return bytes.slice(1, begin, end).clone(at::MemoryFormat::Contiguous).view(type);
}

}  // namespace

GlobalBatch GatherBatch(const OwnSamples& own, const std::vector<std::int64_t>& rows_per_rank,
                        Communicator& comm) {
  const at::Tensor all = comm.AllGatherRows(Pack(own), rows_per_rank);
  const std::int64_t labels = all.size(1) - kLabelBytes;
  // One copy to the processor for both.
  const at::Tensor numbers = all.slice(1, labels - kNormBytes).cpu();
  const at::Tensor norms = Part(numbers, 0, kNormBytes, at::kFloat);
  GlobalBatch batch;
  batch.first_own =
      std::accumulate(rows_per_rank.begin(), rows_per_rank.begin() + comm.rank(), std::int64_t{0});
  batch.x = Part(all, 0, labels - kNormBytes, at::kFloat);
  batch.norms.assign(norms.const_data_ptr<float>(), norms.const_data_ptr<float>() + norms.numel());
  batch.labels = Part(numbers, kNormBytes, kNormBytes + kLabelBytes, at::kLong).view({-1});
  CheckFinite(batch.norms, "the embedding", rows_per_rank);
  return batch;
}

}  // namespace fr
