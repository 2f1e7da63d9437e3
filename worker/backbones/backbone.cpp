#include "worker/backbones/backbone.h"

#include <fmt/format.h>

#include "common/base/error.h"
#include "worker/backbones/ir_resnet.h"
#include "worker/backbones/mobilefacenet.h"
#include "worker/comm/communicator.h"

namespace fr {

// The registry: one line a network.
std::shared_ptr<Backbone> MakeBackbone(const BackboneOptions& options) {
  if (options.embedding_size < 1) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("an embedding of {} values cannot be: give model.embedding_size of at "
                            "least 1",
                            options.embedding_size));
  }
  switch (options.network) {
    case Network::r18:
      return MakeIrResNet({2, 2, 2, 2}, options);
    case Network::r34:
      return MakeIrResNet({3, 4, 6, 3}, options);
    case Network::r50:
      return MakeIrResNet({3, 4, 14, 3}, options);
    case Network::r100:
      return MakeIrResNet({3, 13, 30, 3}, options);
    case Network::mbf:
      return MakeMobileFaceNet(options);
  }
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("network number {} is not known", static_cast<int>(options.network)));
}

void AverageBuffers(Backbone& backbone, Communicator& comm) {
  const torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> buffers;
  std::vector<torch::Tensor> flat;
  for (const torch::Tensor& buffer : backbone.buffers()) {
    if (!buffer.is_floating_point()) continue;
    buffers.push_back(buffer);
    flat.push_back(buffer.flatten().to(torch::kFloat64));
  }
  if (buffers.empty()) return;
  torch::Tensor all = torch::cat(flat);
  comm.AllReduceSum(all);
  all.div_(comm.world_size());
  std::int64_t offset = 0;
  for (torch::Tensor& buffer : buffers) {
    buffer.copy_(all.slice(0, offset, offset + buffer.numel()).view_as(buffer));
    offset += buffer.numel();
  }
}

}  // namespace fr
