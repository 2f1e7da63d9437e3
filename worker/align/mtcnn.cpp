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

// A box in one of the images.
struct Candidate {
  FaceBox box;
  std::size_t image = 0;
};

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

// Keeps the best of the overlapping boxes of every image. `candidates` and what belongs to them are
// grouped by image before and after.
std::vector<std::size_t> KeepBestOfEach(const std::vector<Candidate>& candidates, float threshold,
                                        Overlap overlap) {
  std::vector<std::size_t> kept;
  for (std::size_t begin = 0; begin < candidates.size();) {
    std::vector<FaceBox> boxes;
    std::size_t end = begin;
    while (end < candidates.size() && candidates[end].image == candidates[begin].image) {
      boxes.push_back(candidates[end++].box);
    }
    for (const std::size_t i : KeepBest(boxes, threshold, overlap)) kept.push_back(begin + i);
    begin = end;
  }
  return kept;
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

// The first stage for one image: square boxes.
std::vector<FaceBox> ProposeBoxes(const MtcnnNetworks& networks, const Image& image) {
  std::vector<Window> windows;
  const double first = kWindow / kMinFace;
  double scale = first;
  for (double side = std::min(image.height, image.width) * first; side >= kWindow;
       side *= kFactor, scale *= kFactor) {
    if (scale * image.height * scale * image.width > kMaxScaledPixels) continue;
    const std::vector<Window> best = BestWindows(WindowsAtScale(networks, image, scale), 0.5F);
    windows.insert(windows.end(), best.begin(), best.end());
  }
  std::vector<FaceBox> boxes;
  for (const Window& window : BestWindows(windows, 0.7F)) {
    boxes.push_back(Squared(Shifted(window.box, window.offsets, 0)));
  }
  return boxes;
}

std::vector<Candidate> Propose(const MtcnnNetworks& networks, const std::vector<Image>& images) {
  std::vector<std::vector<FaceBox>> boxes(images.size());
  ForEach(std::ssize(images), [&](std::int64_t i) {
    const auto index = static_cast<std::size_t>(i);
    boxes[index] = ProposeBoxes(networks, images[index]);
  });
  std::vector<Candidate> candidates;
  for (std::size_t i = 0; i < images.size(); ++i) {
    for (const FaceBox& box : boxes[i]) candidates.push_back({box, i});
  }
  return candidates;
}

using Network = std::function<WindowsOutput(const at::Tensor& crops)>;

// Runs `network` on the candidates' crops of `side` x `side` pixels, several at a time, and calls
// take(i, output, row) for those that are faces with more than `threshold`, from several threads.
// Candidates outside their images are dropped before, the others get their score.
void LookAgain(const std::vector<Image>& images, int side, float threshold, const Network& network,
               std::vector<Candidate>* candidates,
               const std::function<void(std::size_t, const WindowsOutput&, std::int64_t)>& take) {
  std::erase_if(*candidates, [&images](const Candidate& candidate) {
    return IsEmpty(CropOf(candidate.box, images[candidate.image]));
  });
  const std::int64_t total = std::ssize(*candidates);
  // As many parts as threads, if each is worth it.
  const std::int64_t wanted = (total + at::get_num_threads() - 1) / at::get_num_threads();
  const std::int64_t part = std::clamp<std::int64_t>(wanted, 16, kCropsAtATime);
  ForEach((total + part - 1) / part, [&](std::int64_t i) {
    const std::int64_t begin = i * part;
    const std::int64_t count = std::min(part, total - begin);
    at::Tensor crops = at::empty({count, 3, side, side}, at::kFloat);
    float* pixels = crops.data_ptr<float>();
    for (std::int64_t k = 0; k < count; ++k, pixels += 3 * side * side) {
      const Candidate& candidate = (*candidates)[static_cast<std::size_t>(begin + k)];
      const Image& image = images[candidate.image];
      AreaMean(image, CropOf(candidate.box, image), side, side, pixels);
    }
    const WindowsOutput output = network(crops);
    const float* face = output.face.const_data_ptr<float>();
    for (std::int64_t k = 0; k < count; ++k) {
      const auto index = static_cast<std::size_t>(begin + k);
      (*candidates)[index].box.score = face[k];
      if (face[k] > threshold) take(index, output, k);
    }
  });
}

Offsets OffsetsAt(const WindowsOutput& output, std::int64_t row) {
  const float* offsets = output.offsets.const_data_ptr<float>() + row * 4;
  return {offsets[0], offsets[1], offsets[2], offsets[3]};
}

std::vector<Candidate> Refine(const MtcnnNetworks& networks, const std::vector<Image>& images,
                              std::vector<Candidate> candidates) {
  std::vector<Offsets> offsets(candidates.size());
  std::vector<char> passed(candidates.size());
  LookAgain(
      images, 24, kRefineThreshold,
      [&networks](const at::Tensor& crops) { return networks.Refine(crops); }, &candidates,
      [&](std::size_t i, const WindowsOutput& output, std::int64_t row) {
        offsets[i] = OffsetsAt(output, row);
        passed[i] = 1;
      });
  std::vector<Candidate> faces;
  std::vector<Offsets> faces_offsets;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    if (passed[i] == 0) continue;
    faces.push_back(candidates[i]);
    faces_offsets.push_back(offsets[i]);
  }
  std::vector<Candidate> best;
  for (const std::size_t i : KeepBestOfEach(faces, 0.7F, Overlap::kUnion)) {
    best.push_back({Squared(Shifted(faces[i].box, faces_offsets[i], 1)), faces[i].image});
  }
  return best;
}

Face FaceAt(const Candidate& candidate, const WindowsOutput& output, std::int64_t row) {
  const FaceBox& box = candidate.box;
  const float width = box.right - box.left + 1;
  const float height = box.bottom - box.top + 1;
  Face face;
  const float* points = output.points.const_data_ptr<float>() + row * 10;
  for (std::size_t p = 0; p < face.points.size(); ++p) {
    face.points[p] = {width * points[p] + box.left - 1, height * points[p + 5] + box.top - 1};
  }
  face.box = Shifted(box, OffsetsAt(output, row), 1);
  return face;
}

std::vector<std::vector<Face>> Output(const MtcnnNetworks& networks,
                                      const std::vector<Image>& images,
                                      std::vector<Candidate> candidates) {
  std::vector<Face> found(candidates.size());
  std::vector<char> passed(candidates.size());
  LookAgain(
      images, 48, kOutputThreshold,
      [&networks](const at::Tensor& crops) { return networks.Output(crops); }, &candidates,
      [&](std::size_t i, const WindowsOutput& output, std::int64_t row) {
        found[i] = FaceAt(candidates[i], output, row);
        passed[i] = 1;
      });
  std::vector<Candidate> boxes;
  std::vector<Face> faces;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    if (passed[i] == 0) continue;
    boxes.push_back({found[i].box, candidates[i].image});
    faces.push_back(found[i]);
  }
  std::vector<std::vector<Face>> by_image(images.size());
  for (const std::size_t i : KeepBestOfEach(boxes, 0.7F, Overlap::kSmaller)) {
    by_image[boxes[i].image].push_back(faces[i]);
  }
  return by_image;
}

}  // namespace

struct Mtcnn::Impl {
  MtcnnNetworks networks;
};

Mtcnn::Mtcnn(const std::filesystem::path& directory) : impl_(new Impl{MtcnnNetworks(directory)}) {}

Mtcnn::~Mtcnn() = default;

std::vector<std::vector<Face>> Mtcnn::Detect(const std::vector<Image>& images) const {
  const MtcnnNetworks& networks = impl_->networks;
  return Output(networks, images, Refine(networks, images, Propose(networks, images)));
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
