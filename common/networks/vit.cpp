#include "common/networks/vit.h"

#include <string>

#include "common/base/error.h"

namespace fr {
namespace {

constexpr std::int64_t kPatch = 9;
constexpr std::int64_t kHeads = 8;
constexpr std::int64_t kMlpRatio = 4;
constexpr double kDeviation = 0.02;
constexpr double kOutputEpsilon = 2e-5;

// x + drop_path(attention(norm1(x))), then the same with the perceptron.
int Block(GraphBuilder& b, const std::string& name, int x, double drop_path) {
  b.BeginBlock();
  const std::int64_t width = b.shape(x).back();
  int y = b.LayerNorm(name + ".norm1", x);
  y = b.Linear(name + ".attn.qkv", y, 3 * width, /*bias=*/false);
  y = b.Attention(name + ".attn.core", y, kHeads);
  y = b.Linear(name + ".attn.proj", y, width, /*bias=*/true);
  x = b.Add(name + ".add1", x, b.DropPath(name + ".drop_path1", y, drop_path));
  y = b.LayerNorm(name + ".norm2", x);
  y = b.Linear(name + ".mlp.fc1", y, kMlpRatio * width, /*bias=*/true);
  y = b.Relu6(name + ".mlp.act", y);
  y = b.Linear(name + ".mlp.fc2", y, width, /*bias=*/true);
  return b.Add(name + ".add2", x, b.DropPath(name + ".drop_path2", y, drop_path));
}

}  // namespace

Graph MakeVit(const VitSpec& spec, const NetworkOptions& options) {
  if (options.output) {
    throw Error(ErrorCode::kInvalidArgument,
                "model.output: a vision transformer has no choice of outputs; leave it out");
  }
  if (options.dropout != 0) {
    throw Error(ErrorCode::kInvalidArgument,
                "model.dropout: a vision transformer has none; leave it out");
  }
  GraphBuilder b;
  b.set_linear_init({WeightInit::Kind::kTruncatedNormal, kDeviation});
  int x = b.Conv("patch_embed.proj", b.input(),
                 {.out = spec.width, .kernel = {kPatch, kPatch}, .stride = kPatch, .bias = true});
  x = b.Tokens("patch_embed.tokens", x);
  x = b.AddPositions("pos_embed", x, {Init::Kind::kTruncatedNormal, kDeviation});
  const int hidden = b.HideTokens("hide_tokens", x, spec.hidden_share);
  x = hidden;
  for (int i = 0; i < spec.depth; ++i) {
    x = Block(b, "blocks." + std::to_string(i), x, spec.drop_path * i / (spec.depth - 1));
  }
  b.BeginBlock();
  x = b.LayerNorm("norm", x);
  x = b.RestoreTokens("mask_token", x, hidden, {Init::Kind::kNormal, kDeviation});
  x = b.Flatten("flatten", x);
  b.set_batch_norm_epsilon(kOutputEpsilon);
  x = b.Linear("feature.0", x, spec.width, /*bias=*/false);
  x = b.BatchNorm("feature.1", x);
  x = b.Linear("feature.2", x, options.embedding_size, /*bias=*/false);
  b.BatchNorm("feature.3", x);
  return b.Finish();
}

}  // namespace fr
