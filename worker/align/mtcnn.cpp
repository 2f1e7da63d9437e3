#include "worker/align/mtcnn.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <functional>

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <c10/core/InferenceMode.h>

#include "worker/align/area_mean.h"
#include "worker/align/mtcnn_networks.h"

namespace fr {
namespace {

constexpr double kMinFace = 20;  // pixels
constexpr double kFactor = 0.709;
constexpr double kWindow = 12;  // P-Net's, in pixels
constexpr float kProposeThreshold = 0.6F;
constexpr float kRefineThreshold = 0.7F;
constexpr float kOutputThreshold = 0.7F;
constexpr double kMaxScaledPixels = 8e6;
constexpr std::size_t kMaxWindows = 10'000;
constexpr std::int64_t kCropsAtATime = 128;

struct Offsets {
  float left = 0;
  float top = 0;
  float right = 0;
  float bottom = 0;
};

// body(i) for i in [0, count), on LibTorch's threads: whoever is free takes the next. What LibTorch
// computes inside stays on its thread, unless there is only one piece of work.
void ForEach(std::int64_t count, const std::function<void(std::int64_t)>& body) {
  std::atomic<std::int64_t> next = 0;
  const auto work = [&](std::int64_t, std::int64_t) {
    const c10::InferenceMode inference;
    for (std::int64_t i = next++; i < count; i = next++) body(i);
  };
  at::parallel_for(0, std::min<std::int64_t>(count, at::get_num_threads()), 1, work);
}

// P-Net's offsets are relative to the box, R-Net's and O-Net's to the box with its last pixel:
// `border` 0 and 1.
FaceBox Shifted(const FaceBox& box, const Offsets& offsets, float border) {
  const float width = box.right - box.left + border;
  const float height = box.bottom - box.top + border;
  return {box.left + offsets.left * width, box.top + offsets.top * height,
          box.right + offsets.right * width, box.bottom + offsets.bottom * height, box.score};
}

FaceBox Squared(const FaceBox& box) {
  const float width = box.right - box.left;
  const float height = box.bottom - box.top;
  const float side = std::max(width, height);
  const float left = box.left + width * 0.5F - side * 0.5F;
  const float top = box.top + height * 0.5F - side * 0.5F;
  return {left, top, left + side, top + side, box.score};
}

// The part of the box that lies in the image; of no pixels if none does.
PixelRectangle CropOf(const FaceBox& box, const Image& image) {
  const auto whole = [](float value) {
    constexpr float kFar = 1e6F;
    return std::isfinite(value) ? static_cast<int>(std::clamp(value, -kFar, kFar)) : 0;
  };
  return {std::max(whole(box.left), 1) - 1, std::max(whole(box.top), 1) - 1,
          std::min(whole(box.right), image.width), std::min(whole(box.bottom), image.height)};
}

bool IsEmpty(const PixelRectangle& part) {
  return part.right <= part.left || part.bottom <= part.top;
}

struct Window {
  FaceBox box;
  Offsets offsets;
};

// What P-Net finds in one scale of one image, the best of overlapping windows.
std::vector<Window> WindowsAtScale(const MtcnnNetworks& networks, const Image& image,
                                   double scale) {
  const int height = static_cast<int>(image.height * scale + 1);
  const int width = static_cast<int>(image.width * scale + 1);
  at::Tensor scaled = at::empty({1, 3, height, width}, at::kFloat);
  AreaMean(image, {0, 0, image.width, image.height}, height, width, scaled.data_ptr<float>());
  const WindowsOutput found = networks.Propose(scaled);
  const auto face = found.face.accessor<float, 3>();
  const auto offsets = found.offsets.accessor<float, 4>();
  const auto divisor = static_cast<float>(scale);
  std::vector<Window> windows;
  for (std::int64_t y = 0; y < face.size(1); ++y) {
    for (std::int64_t x = 0; x < face.size(2); ++x) {
      if (!(face[0][y][x] >= kProposeThreshold)) continue;
      const auto left = static_cast<float>(2 * x + 1);
      const auto top = static_cast<float>(2 * y + 1);
      constexpr float kSide = 11;
      windows.push_back(
          {{std::floor(left / divisor), std::floor(top / divisor),
            std::floor((left + kSide) / divisor), std::floor((top + kSide) / divisor),
            face[0][y][x]},
           {offsets[0][0][y][x], offsets[0][1][y][x], offsets[0][2][y][x], offsets[0][3][y][x]}});
    }
  }
  if (windows.size() > kMaxWindows) {
    std::stable_sort(windows.begin(), windows.end(),
                     [](const Window& a, const Window& b) { return a.box.score > b.box.score; });
    windows.resize(kMaxWindows);
  }
  return windows;
}

std::vector<Window> BestWindows(const std::vector<Window>& windows, float threshold) {
  std::vector<FaceBox> boxes;
  for (const Window& window : windows) boxes.push_back(window.box);
  std::vector<Window> best;
  for (const std::size_t i : KeepBest(boxes, threshold, Overlap::kUnion)) {
    best.push_back(windows[i]);
  }
  return best;
}

// The first stage: square boxes.
std::vector<FaceBox> Propose(const MtcnnNetworks& networks, const Image& image) {
  std::vector<double> scales;
  double scale = kWindow / kMinFace;
  for (double side = std::min(image.height, image.width) * scale; side >= kWindow;
       side *= kFactor, scale *= kFactor) {
    if (scale * image.height * scale * image.width <= kMaxScaledPixels) scales.push_back(scale);
  }
  std::vector<std::vector<Window>> of_scales(scales.size());
  ForEach(std::ssize(scales), [&](std::int64_t i) {
    const auto index = static_cast<std::size_t>(i);
    of_scales[index] = BestWindows(WindowsAtScale(networks, image, scales[index]), 0.5F);
  });
  std::vector<Window> windows;
  for (const auto& found : of_scales) windows.insert(windows.end(), found.begin(), found.end());
  std::vector<FaceBox> boxes;
  for (const Window& window : BestWindows(windows, 0.7F)) {
    boxes.push_back(Squared(Shifted(window.box, window.offsets, 0)));
  }
  return boxes;
}

using Network = std::function<WindowsOutput(const at::Tensor& crops)>;

// What a network says of the boxes that it takes for faces, with `box.score` its own.
struct Judged {
  FaceBox box;
  Offsets offsets;
  FacePoints points;
};

Judged JudgedAt(const FaceBox& box, const WindowsOutput& output, std::int64_t row) {
  Judged judged{box, {}, {}};
  judged.box.score = output.face.const_data_ptr<float>()[row];
  const float* offsets = output.offsets.const_data_ptr<float>() + row * 4;
  judged.offsets = {offsets[0], offsets[1], offsets[2], offsets[3]};
  if (!output.points.defined()) return judged;
  const float width = box.right - box.left + 1;
  const float height = box.bottom - box.top + 1;
  const float* points = output.points.const_data_ptr<float>() + row * 10;
  for (std::size_t p = 0; p < judged.points.size(); ++p) {
    judged.points[p] = {width * points[p] + box.left - 1, height * points[p + 5] + box.top - 1};
  }
  return judged;
}

// Runs `network` on what `boxes` show, as `side` x `side` pixels, several at a time: those that are
// faces with more than `threshold`. Boxes outside the image are none.
std::vector<Judged> Judge(const Image& image, std::vector<FaceBox> boxes, int side, float threshold,
                          const Network& network) {
  std::erase_if(boxes, [&image](const FaceBox& box) { return IsEmpty(CropOf(box, image)); });
  // As many parts as threads, if each is worth it.
  const std::int64_t total = std::ssize(boxes);
  const std::int64_t share = (total + at::get_num_threads() - 1) / at::get_num_threads();
  const std::int64_t part = std::clamp<std::int64_t>(share, 16, kCropsAtATime);
  std::vector<std::vector<Judged>> parts(static_cast<std::size_t>((total + part - 1) / part));
  ForEach(std::ssize(parts), [&](std::int64_t i) {
    const std::int64_t begin = i * part;
    const std::int64_t count = std::min(part, total - begin);
    at::Tensor crops = at::empty({count, 3, side, side}, at::kFloat);
    float* pixels = crops.data_ptr<float>();
    for (std::int64_t k = 0; k < count; ++k, pixels += 3 * side * side) {
      const FaceBox& box = boxes[static_cast<std::size_t>(begin + k)];
      AreaMean(image, CropOf(box, image), side, side, pixels);
    }
    const WindowsOutput output = network(crops);
    for (std::int64_t k = 0; k < count; ++k) {
      const Judged judged = JudgedAt(boxes[static_cast<std::size_t>(begin + k)], output, k);
      if (judged.box.score > threshold) parts[static_cast<std::size_t>(i)].push_back(judged);
    }
  });
  std::vector<Judged> faces;
  for (const auto& found : parts) faces.insert(faces.end(), found.begin(), found.end());
  return faces;
}

std::vector<FaceBox> Refine(const MtcnnNetworks& networks, const Image& image,
                            std::vector<FaceBox> boxes) {
  const std::vector<Judged> faces =
      Judge(image, std::move(boxes), 24, kRefineThreshold,
            [&networks](const at::Tensor& crops) { return networks.Refine(crops); });
  std::vector<FaceBox> judged;
  for (const Judged& face : faces) judged.push_back(face.box);
  std::vector<FaceBox> best;
  for (const std::size_t i : KeepBest(judged, 0.7F, Overlap::kUnion)) {
    best.push_back(Squared(Shifted(faces[i].box, faces[i].offsets, 1)));
  }
  return best;
}

std::vector<Face> Output(const MtcnnNetworks& networks, const Image& image,
                         std::vector<FaceBox> boxes) {
  const std::vector<Judged> faces =
      Judge(image, std::move(boxes), 48, kOutputThreshold,
            [&networks](const at::Tensor& crops) { return networks.Output(crops); });
  std::vector<FaceBox> shifted;
  for (const Judged& face : faces) shifted.push_back(Shifted(face.box, face.offsets, 1));
  std::vector<Face> best;
  for (const std::size_t i : KeepBest(shifted, 0.7F, Overlap::kSmaller)) {
    best.push_back({shifted[i], faces[i].points});
  }
  return best;
}

}  // namespace

struct Mtcnn::Impl {
  MtcnnNetworks networks;
};

Mtcnn::Mtcnn(const std::filesystem::path& directory) : impl_(new Impl{MtcnnNetworks(directory)}) {}

Mtcnn::~Mtcnn() = default;

std::vector<Face> Mtcnn::Detect(const Image& image) const {
  const MtcnnNetworks& networks = impl_->networks;
  return Output(networks, image, Refine(networks, image, Propose(networks, image)));
}

std::filesystem::path MtcnnDirectory(const std::string& option) {
  if (!option.empty()) return option;
  if (const char* variable = std::getenv("FR_MTCNN"); variable != nullptr && *variable != 0) {
    return variable;
  }
  const char* home = std::getenv("HOME");
  return std::filesystem::path(home == nullptr ? "." : home) / ".local/share/fr/mtcnn";
}

}  // namespace fr
