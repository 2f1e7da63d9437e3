// What the tests of MTCNN against facenet-pytorch drive.
//
//   mtcnn_trace detect WEIGHTS PICTURE...         a line {"faces": [{"box", "score", "points"}]}
//   each mtcnn_trace network WEIGHTS pnet|rnet|onet INPUT HEIGHT WIDTH
//       INPUT: float32 [n, 3, HEIGHT, WIDTH]; writes INPUT.face, INPUT.offsets and, of onet,
//       INPUT.points beside it.

#include <exception>
#include <string>
#include <vector>

#include <fmt/format.h>

#include <ATen/ops/from_blob.h>
#include <nlohmann/json.hpp>

#include "common/base/file.h"
#include "worker/align/mtcnn.h"
#include "worker/align/mtcnn_networks.h"

namespace fr {
namespace {

void Detect(const std::string& weights, const std::vector<std::string>& files) {
  const Mtcnn mtcnn(weights);
  for (const std::string& file : files) {
    nlohmann::json list = nlohmann::json::array();
    for (const Face& face : mtcnn.Detect(DecodeImage(ReadFile(file)))) {
      nlohmann::json points = nlohmann::json::array();
      for (const Point& point : face.points) points.push_back({point.x, point.y});
      const FaceBox& box = face.box;
      list.push_back({{"box", {box.left, box.top, box.right, box.bottom}},
                      {"score", box.score},
                      {"points", points}});
    }
    fmt::print("{}\n", nlohmann::json{{"faces", list}}.dump());
  }
}

void Save(const at::Tensor& tensor, const std::string& path) {
  if (!tensor.defined()) return;
  const at::Tensor dense = tensor.contiguous();
  WriteFileAtomically(path, {static_cast<const char*>(dense.const_data_ptr()), dense.nbytes()});
}

void RunNetwork(const std::string& weights, const std::string& name, const std::string& input,
                std::int64_t height, std::int64_t width) {
  std::string bytes = ReadFile(input);
  const auto count = static_cast<std::int64_t>(bytes.size()) / (12 * height * width);
  const at::Tensor images = at::from_blob(bytes.data(), {count, 3, height, width}, at::kFloat);
  const MtcnnNetworks networks(weights);
  const WindowsOutput output = name == "pnet"   ? networks.Propose(images)
                               : name == "rnet" ? networks.Refine(images)
                                                : networks.Output(images);
  Save(output.face, input + ".face");
  Save(output.offsets, input + ".offsets");
  Save(output.points, input + ".points");
}

int Main(const std::vector<std::string>& arguments) {
  try {
    if (arguments.at(0) == "detect") {
      Detect(arguments.at(1), {arguments.begin() + 2, arguments.end()});
    } else {
      RunNetwork(arguments.at(1), arguments.at(2), arguments.at(3), std::stoll(arguments.at(4)),
                 std::stoll(arguments.at(5)));
    }
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}

}  // namespace
}  // namespace fr

int main(int argc, char** argv) { return fr::Main({argv + 1, argv + argc}); }
