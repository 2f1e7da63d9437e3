#include "common/networks/densenet.h"

#include <string>
#include <vector>

#include "common/networks/output.h"

namespace fr {
namespace {

constexpr std::int64_t kBottleneck = 4;  // times the growth

// What a layer adds to the block's maps. It reads each of them, not the last layer's concatenation:
// only they need to be kept for `recompute`, and they may lie side by side in one buffer, of which
// every concatenation is the front.
int DenseLayer(GraphBuilder& b, const std::string& name, const std::vector<int>& maps,
               std::int64_t growth) {
  b.BeginBlock();
  int x = maps.size() == 1 ? maps.front() : b.Concat(name + ".inputs", maps);
  x = b.Relu(name + ".relu1", b.BatchNorm(name + ".norm1", x));
  x = b.Conv(name + ".conv1", x, {.out = kBottleneck * growth});
  x = b.Relu(name + ".relu2", b.BatchNorm(name + ".norm2", x));
  return b.Conv(name + ".conv2", x, {.out = growth, .kernel = {3, 3}, .padding = {1, 1}});
}

int DenseBlock(GraphBuilder& b, const std::string& name, int x, int layers, std::int64_t growth) {
  std::vector<int> maps = {x};
  for (int i = 1; i <= layers; ++i) {
    maps.push_back(DenseLayer(b, name + ".denselayer" + std::to_string(i), maps, growth));
  }
  b.BeginBlock();
  return b.Concat(name + ".concat", maps);
}

// Half the channels, half the size.
int Transition(GraphBuilder& b, const std::string& name, int x) {
  const std::int64_t channels = b.channels(x);
  x = b.Relu(name + ".relu", b.BatchNorm(name + ".norm", x));
  x = b.Conv(name + ".conv", x, {.out = channels / 2});
  return b.AveragePool(name + ".pool", x, {.kernel = 2, .stride = 2});
}

}  // namespace

Graph MakeDenseNet(const DenseNetSpec& spec, const NetworkOptions& options) {
  GraphBuilder b;
  b.set_conv_init({WeightInit::Kind::kKaimingFanIn});
  int x = b.Conv("features.conv0", b.input(),
                 {.out = 2 * spec.growth, .kernel = {3, 3}, .padding = {1, 1}});
  x = b.Relu("features.relu0", b.BatchNorm("features.norm0", x));
  x = b.MaxPool("features.pool0", x, {.kernel = 3, .stride = 2, .padding = 1});
  for (std::size_t block = 0; block < spec.layers.size(); ++block) {
    const std::string number = std::to_string(block + 1);
    x = DenseBlock(b, "features.denseblock" + number, x, spec.layers[block], spec.growth);
    if (block + 1 < spec.layers.size()) x = Transition(b, "features.transition" + number, x);
  }
  x = b.Relu("relu5", b.BatchNorm("features.norm5", x));
  AddOutput(b, x, options.output.value(), options.embedding_size, options.dropout, "output.");
  return b.Finish();
}

}  // namespace fr
