#include "worker/align/face_boxes.h"

#include <algorithm>
#include <numeric>

namespace fr {
namespace {

// `border`: 1 where the right and bottom pixels belong to the box.
float AreaOf(const FaceBox& box, float border) {
  return (box.right - box.left + border) * (box.bottom - box.top + border);
}

float OverlapOf(const FaceBox& a, const FaceBox& b, Overlap overlap) {
  const float border = overlap == Overlap::kSmaller ? 1 : 0;
  const float width = std::min(a.right, b.right) - std::max(a.left, b.left) + border;
  const float height = std::min(a.bottom, b.bottom) - std::max(a.top, b.top) + border;
  if (width <= 0 || height <= 0) return 0;
  const float shared = width * height;
  const float area_a = AreaOf(a, border);
  const float area_b = AreaOf(b, border);
  if (overlap == Overlap::kSmaller) return shared / std::min(area_a, area_b);
  return shared / (area_a + area_b - shared);
}

}  // namespace

std::vector<std::size_t> KeepBest(std::span<const FaceBox> boxes, float threshold,
                                  Overlap overlap) {
  std::vector<std::size_t> order(boxes.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [boxes](std::size_t a, std::size_t b) {
    return boxes[a].score > boxes[b].score;
  });
  std::vector<std::size_t> kept;
  for (const std::size_t candidate : order) {
    const bool covered = std::any_of(kept.begin(), kept.end(), [&](std::size_t better) {
      return OverlapOf(boxes[better], boxes[candidate], overlap) > threshold;
    });
    if (!covered) kept.push_back(candidate);
  }
  return kept;
}

const Face* MainFace(std::span<const Face> faces, int height, int width) {
  const auto weight = [height, width](const Face& face) {
    const FaceBox& box = face.box;
    const double x = (static_cast<double>(box.left) + box.right - width) / 2;
    const double y = (static_cast<double>(box.top) + box.bottom - height) / 2;
    const double area =
        (static_cast<double>(box.right) - box.left) * (static_cast<double>(box.bottom) - box.top);
    return area - 2 * (x * x + y * y);
  };
  const auto best =
      std::max_element(faces.begin(), faces.end(),
                       [&weight](const Face& a, const Face& b) { return weight(a) < weight(b); });
  return best == faces.end() ? nullptr : &*best;
}

}  // namespace fr
