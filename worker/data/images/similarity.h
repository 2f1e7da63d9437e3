#pragma once
// Alignment of faces: the similarity transform that brings five points of a face to where networks
// expect them, and the picture warped by it. The numbers are those of InsightFace's norm_crop
// (skimage's SimilarityTransform and OpenCV's warpAffine), on which the field's networks are
// trained.

#include <array>
#include <cstdint>

#include "worker/data/images/image.h"

namespace fr {

// In pixels; the centre of a picture's first pixel is (0, 0).
struct Point {
  double x = 0;
  double y = 0;
};

// Left eye, right eye, nose, left and right corner of the mouth: left as the viewer sees it.
using FacePoints = std::array<Point, 5>;

// (x, y) -> (a x - b y + tx, b x + a y + ty): turns, scales and moves, never mirrors.
struct Similarity {
  double a = 1;
  double b = 0;
  double tx = 0;
  double ty = 0;

  Point operator()(const Point& p) const {
    return {a * p.x - b * p.y + tx, b * p.x + a * p.y + ty};
  }
};

// Where an aligned face of `side` x `side` pixels has its points: ArcFace's positions for 112
// (Deng et al. 2019), scaled.
FacePoints AlignedPoints(int side);

// The transform with the least sum of squared distances between the images of `from` and `to`
// (Umeyama 1991). Throws Error(kInvalidArgument) for points that are no numbers, that all lie in
// one place, or that determine no direction (as those of a mirrored face may).
Similarity FitSimilarity(const FacePoints& from, const FacePoints& to);

// `image` under `transform`, cut to [0, width) x [0, height): bilinear, black outside the image,
// in steps of 1/32 pixel as cv2.warpAffine(INTER_LINEAR) of OpenCV 4 computes it, bit for bit.
// REQUIRES: a transform that FitSimilarity returned, or another of scale > 0.
Image WarpSimilarity(const Image& image, const Similarity& transform, int height, int width);

// The face whose points are given, as networks take it: `side` x `side`. Throws as FitSimilarity
// does.
Image AlignFace(const Image& image, const FacePoints& points, int side);

}  // namespace fr
