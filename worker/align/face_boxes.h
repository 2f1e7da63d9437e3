#pragma once
// Boxes around faces, and which of many that overlap to keep.

#include <cstddef>
#include <span>
#include <vector>

#include "worker/data/images/similarity.h"

namespace fr {

// In pixels of the picture; may reach beyond it.
struct FaceBox {
  float left = 0;
  float top = 0;
  float right = 0;
  float bottom = 0;
  float score = 0;  // 0..1: how sure the network is
};

// Two boxes overlap by the area that they share, relative to ...
enum class Overlap {
  kUnion,    // ... that of both together
  kSmaller,  // ... that of the smaller one; borders count as pixels
};

// Non-maximum suppression: goes from the best score to the worst and keeps the boxes that overlap
// with none of those kept by more than `threshold`. Indices into `boxes`, the best first; of equal
// scores the first one comes first.
std::vector<std::size_t> KeepBest(std::span<const FaceBox> boxes, float threshold, Overlap overlap);

// A face that was found.
struct Face {
  FaceBox box;
  FacePoints points;
};

// The one that a picture of `height` x `width` pixels is of: the largest and most central, by area
// of the box minus twice the squared distance of its centre from the picture's (as facenet and
// InsightFace choose). nullptr if there is none.
const Face* MainFace(std::span<const Face> faces, int height, int width);

}  // namespace fr
