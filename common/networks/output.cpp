#include "common/networks/output.h"

#include <array>

#include "common/base/error.h"

namespace fr {
namespace {

// fc and the batch norm behind it, whose scale stays 1.
int AddEmbedding(GraphBuilder& builder, int x, std::int64_t embedding_size,
                 const std::string& prefix) {
  x = builder.Flatten(prefix + "flatten", x);
  x = builder.Linear(prefix + "fc", x, embedding_size, /*bias=*/true);
  return builder.BatchNorm(prefix + "features", x, /*fixed_weight=*/true);
}

}  // namespace

void RefuseDropout(double dropout) {
  if (dropout == 0) return;
  throw Error(ErrorCode::kInvalidArgument,
              "model.dropout: only output E drops values; set model.output to E, or model.dropout "
              "to 0");
}

int AddOutput(GraphBuilder& builder, int x, ModelSpec::Output output, std::int64_t embedding_size,
              double dropout, const std::string& prefix) {
  if (output != ModelSpec::E) RefuseDropout(dropout);
  builder.BeginBlock();
  switch (output) {
    case ModelSpec::E:
      x = builder.Dropout(prefix + "dropout", builder.BatchNorm(prefix + "bn2", x), dropout);
      break;
    case ModelSpec::FC:
      x = builder.BatchNorm(prefix + "bn2", x);
      break;
    case ModelSpec::GAP:
      x = builder.PRelu(prefix + "prelu2", builder.BatchNorm(prefix + "bn2", x));
      x = builder.GlobalAveragePool(prefix + "pool", x);
      break;
    case ModelSpec::GDC: {
      const std::int64_t channels = builder.channels(x);
      const std::array<std::int64_t, 2> whole = {builder.shape(x)[1], builder.shape(x)[2]};
      x = builder.Conv(prefix + "gdc", x, {.out = channels, .kernel = whole, .groups = channels});
      x = builder.BatchNorm(prefix + "gdc_bn", x);
      break;
    }
  }
  return AddEmbedding(builder, x, embedding_size, prefix);
}

}  // namespace fr
