#include "worker/backbones/output.h"

namespace fr {
namespace {

// fc and the batch norm behind it, whose scale stays 1.
int AddEmbedding(GraphBuilder& builder, int x, std::int64_t embedding_size) {
  x = builder.Flatten("flatten", x);
  x = builder.Linear("fc", x, embedding_size, /*bias=*/true);
  return builder.BatchNorm("features", x, /*fixed_weight=*/true);
}

}  // namespace

int AddOutput(GraphBuilder& builder, int x, ModelSpec::Output output, std::int64_t embedding_size,
              double dropout) {
  builder.BeginBlock();
  switch (output) {
    case ModelSpec::E:
      x = builder.Dropout("dropout", builder.BatchNorm("bn2", x), dropout);
      break;
    case ModelSpec::FC:
      x = builder.BatchNorm("bn2", x);
      break;
    case ModelSpec::GAP:
      x = builder.GlobalAveragePool("pool", builder.PRelu("prelu2", builder.BatchNorm("bn2", x)));
      break;
    case ModelSpec::GDC: {
      const std::int64_t channels = builder.channels(x);
      const std::array<std::int64_t, 2> whole = {builder.shape(x)[1], builder.shape(x)[2]};
      x = builder.Conv("gdc", x, {.out = channels, .kernel = whole, .groups = channels});
      x = builder.BatchNorm("gdc_bn", x);
      break;
    }
  }
  return AddEmbedding(builder, x, embedding_size);
}

}  // namespace fr
