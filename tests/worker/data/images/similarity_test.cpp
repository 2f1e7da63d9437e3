#include "worker/data/images/similarity.h"

#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/random.h"

namespace fr {
namespace {

FacePoints Moved(const Similarity& transform, const FacePoints& points) {
  FacePoints moved;
  for (std::size_t i = 0; i < points.size(); ++i) moved[i] = transform(points[i]);
  return moved;
}

Similarity DrawSimilarity(Random& random) {
  const double angle = random.Uniform(-3.1, 3.1);
  const double scale = std::exp(random.Uniform(-2, 2));
  return {scale * std::cos(angle), scale * std::sin(angle), random.Uniform(-100, 100),
          random.Uniform(-100, 100)};
}

void ExpectNear(const Similarity& got, const Similarity& wanted, double tolerance) {
  EXPECT_NEAR(got.a, wanted.a, tolerance);
  EXPECT_NEAR(got.b, wanted.b, tolerance);
  EXPECT_NEAR(got.tx, wanted.tx, tolerance * 100);
  EXPECT_NEAR(got.ty, wanted.ty, tolerance * 100);
}

TEST(FitSimilarity, FindsTheTransformThatMovedThePoints) {
  Random random(1);
  for (int i = 0; i < 100; ++i) {
    const Similarity transform = DrawSimilarity(random);
    const FacePoints points = AlignedPoints(112);
    ExpectNear(FitSimilarity(points, Moved(transform, points)), transform, 1e-9);
  }
}

// scikit-image 0.26: SimilarityTransform.from_estimate(points, AlignedPoints(112)).params.
TEST(FitSimilarity, AgreesWithScikitImage) {
  struct Case {
    FacePoints points;
    Similarity fit;
  };
  const std::vector<Case> cases = {
      {{{{158.8, 149.4}, {260.8, 145.1}, {200.3, 199}, {157.1, 284.2}, {237.6, 269}}},
       {0.321747310195, -0.00993154846508, -11.3418745405, 6.56150789822}},
      {{{{85.1, -11}, {96.1, -21.1}, {94.7, -7.9}, {92.4, 0.4}, {101.1, -7.6}}},
       {2.19584491772, 1.42899014763, -163.609427869, -41.5240390359}},
      {{{{-8.7, -1.4}, {-17.6, 34}, {-25.4, 9.1}, {-50.9, -12.7}, {-50.3, 17.6}}},
       {-0.263638892602, -0.939435710716, 39.2085418404, 45.6299504454}}};
  for (const Case& c : cases) {
    ExpectNear(FitSimilarity(c.points, AlignedPoints(112)), c.fit, 1e-9);
  }
}

double SquaredError(const Similarity& fit, const FacePoints& from, const FacePoints& to) {
  double sum = 0;
  for (std::size_t i = 0; i < from.size(); ++i) {
    const Point moved = fit(from[i]);
    sum += std::pow(moved.x - to[i].x, 2) + std::pow(moved.y - to[i].y, 2);
  }
  return sum;
}

// Least squares: whatever is changed a little, the distances grow.
TEST(FitSimilarity, NoNeighbourIsBetter) {
  Random random(2);
  const FacePoints to = AlignedPoints(112);
  FacePoints from = to;
  for (Point& point : from) point = {point.x + random.Normal() * 5, point.y + random.Normal() * 5};
  const Similarity best = FitSimilarity(from, to);
  const double error = SquaredError(best, from, to);
  for (const double step : {-1e-3, 1e-3}) {
    EXPECT_GT(SquaredError({best.a + step, best.b, best.tx, best.ty}, from, to), error);
    EXPECT_GT(SquaredError({best.a, best.b + step, best.tx, best.ty}, from, to), error);
    EXPECT_GT(SquaredError({best.a, best.b, best.tx + step, best.ty}, from, to), error);
    EXPECT_GT(SquaredError({best.a, best.b, best.tx, best.ty + step}, from, to), error);
  }
}

TEST(FitSimilarity, PointsOfNoFaceAreAnError) {
  const FacePoints to = AlignedPoints(112);
  FacePoints same = {};
  EXPECT_THROW(FitSimilarity(same, to), Error);
  FacePoints not_numbers = to;
  not_numbers[2].x = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(FitSimilarity(not_numbers, to), Error);
  not_numbers[2].x = std::numeric_limits<double>::infinity();
  EXPECT_THROW(FitSimilarity(not_numbers, to), Error);
}

// What OpenCV 4.10 makes of it:
//   y, x, c = numpy.mgrid[0:11, 0:14, 0:3]
//   image = ((37 * x + 91 * y + 53 * c) ^ (x * y)).astype(numpy.uint8)
//   cv2.warpAffine(image, numpy.array([[0.9, -0.35, 1.5], [0.35, 0.9, -2.25]]), (12, 10),
//                  borderValue=0.0)
TEST(WarpSimilarity, IsOpenCvsBitForBit) {
  Image image{11, 14, {}};
  for (int y = 0; y < 11; ++y) {
    for (int x = 0; x < 14; ++x) {
      for (int c = 0; c < 3; ++c) {
        image.pixels.push_back(static_cast<std::uint8_t>((37 * x + 91 * y + 53 * c) ^ (x * y)));
      }
    }
  }
  // clang-format off
  const std::vector<std::uint8_t> wanted = {
      24, 45, 41, 133, 127, 81, 150, 33, 86, 79, 128, 80, 173, 176, 83, 182, 68, 116, 114, 143, 84, 176, 33, 87, 5, 44, 82, 15, 33, 51, 0, 0, 0, 0, 0, 0,
      62, 104, 145, 74, 124, 182, 81, 131, 181, 79, 132, 177, 74, 127, 154, 90, 134, 185, 81, 133, 182, 83, 133, 184, 85, 135, 190, 86, 136, 154, 87, 137, 187, 72, 102, 78,
      173, 200, 111, 169, 154, 188, 183, 203, 58, 176, 104, 143, 145, 186, 22, 175, 225, 91, 190, 143, 173, 175, 217, 65, 179, 79, 132, 126, 158, 76, 184, 57, 69, 192, 110, 69,
      113, 117, 127, 118, 79, 124, 61, 93, 131, 100, 72, 141, 38, 64, 145, 99, 109, 137, 144, 89, 121, 10, 99, 130, 86, 81, 157, 42, 72, 151, 84, 78, 130, 157, 100, 130,
      121, 170, 91, 115, 182, 179, 114, 189, 220, 117, 177, 151, 140, 153, 220, 148, 163, 105, 144, 177, 131, 153, 213, 212, 121, 179, 134, 141, 146, 193, 135, 199, 137, 139, 158, 111,
      184, 130, 81, 185, 173, 82, 187, 90, 97, 106, 155, 82, 168, 19, 93, 83, 80, 65, 166, 177, 71, 194, 28, 119, 101, 145, 50, 200, 69, 103, 74, 64, 66, 136, 79, 79,
      108, 111, 188, 90, 104, 155, 89, 108, 187, 65, 124, 162, 70, 132, 183, 103, 127, 192, 92, 119, 150, 112, 101, 168, 82, 143, 168, 67, 133, 179, 112, 131, 209, 111, 132, 164,
      159, 93, 163, 190, 184, 35, 188, 194, 77, 183, 154, 176, 140, 221, 40, 195, 95, 151, 144, 182, 79, 210, 191, 45, 168, 171, 116, 213, 172, 114, 177, 123, 79, 175, 133, 88,
      113, 17, 53, 132, 68, 124, 94, 120, 125, 135, 61, 127, 35, 107, 96, 84, 90, 135, 69, 125, 89, 117, 47, 174, 98, 80, 119, 89, 31, 75, 115, 74, 174, 53, 139, 68,
      0, 0, 0, 0, 0, 0, 30, 32, 48, 67, 93, 143, 151, 135, 199, 126, 163, 146, 133, 207, 151, 197, 144, 151, 110, 146, 141, 144, 210, 140, 172, 142, 150, 37, 108, 75,
  };
  // clang-format on
  EXPECT_EQ(WarpSimilarity(image, {0.9, 0.35, 1.5, -2.25}, 10, 12).pixels, wanted);
}

Image DrawSmoothPicture(int height, int width) {
  Image image{height, width, {}};
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int c = 0; c < 3; ++c) {
        image.pixels.push_back(
            static_cast<std::uint8_t>(128 + 100 * std::sin(0.07 * x + c) * std::cos(0.05 * y)));
      }
    }
  }
  return image;
}

// The inverse transform and bilinear interpolation in double precision.
double NaiveWarp(const Image& image, const Similarity& transform, int x, int y, int c) {
  const double squared = transform.a * transform.a + transform.b * transform.b;
  const double dx = x - transform.tx;
  const double dy = y - transform.ty;
  const double sx = (transform.a * dx + transform.b * dy) / squared;
  const double sy = (transform.a * dy - transform.b * dx) / squared;
  const auto at = [&](double column, double row) -> double {
    if (column < 0 || row < 0 || column >= image.width || row >= image.height) return 0;
    return image.pixels[static_cast<std::size_t>((row * image.width + column) * 3 + c)];
  };
  const double left = std::floor(sx);
  const double top = std::floor(sy);
  const double u = sx - left;
  const double v = sy - top;
  return (1 - v) * ((1 - u) * at(left, top) + u * at(left + 1, top)) +
         v * ((1 - u) * at(left, top + 1) + u * at(left + 1, top + 1));
}

// Steps of 1/32 pixel cost up to 1/64 of the difference of neighbours: 255 where the image meets
// the black outside.
TEST(WarpSimilarity, AgreesWithTheFormulaInDoublePrecision) {
  Random random(3);
  const Image image = DrawSmoothPicture(90, 120);
  for (int i = 0; i < 20; ++i) {
    const Similarity transform = DrawSimilarity(random);
    const Image warped = WarpSimilarity(image, transform, 60, 70);
    for (int y = 0; y < 60; ++y) {
      for (int x = 0; x < 70; ++x) {
        const auto got = warped.pixels[static_cast<std::size_t>((y * 70 + x) * 3 + 1)];
        EXPECT_NEAR(got, NaiveWarp(image, transform, x, y, 1), 6.0) << i << ": " << x << ", " << y;
      }
    }
  }
}

TEST(WarpSimilarity, TheIdentityKeepsEveryPixel) {
  const Image image = DrawSmoothPicture(31, 17);
  EXPECT_EQ(WarpSimilarity(image, {}, 31, 17).pixels, image.pixels);
}

TEST(WarpSimilarity, WhatLiesFarAwayIsBlack) {
  const Image image = DrawSmoothPicture(20, 20);
  for (const double scale : {1e-5, 1.0, 1e5}) {
    const Image warped = WarpSimilarity(image, {scale, 0, 1e12, -1e12}, 16, 16);
    EXPECT_EQ(warped.pixels, std::vector<std::uint8_t>(16 * 16 * 3)) << scale;
  }
  EXPECT_EQ(WarpSimilarity({1, 1, {9, 9, 9}}, {}, 2, 2).pixels,
            (std::vector<std::uint8_t>{9, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0}));
}

// A mirrored face fits as well as turning allows, which is not well.
TEST(FitSimilarity, NeverMirrors) {
  FacePoints mirrored = AlignedPoints(112);
  for (Point& point : mirrored) point.x = -point.x;
  EXPECT_GT(SquaredError(FitSimilarity(mirrored, AlignedPoints(112)), mirrored, AlignedPoints(112)),
            100);
}

TEST(AlignFace, BringsThePointsToTheirPlaces) {
  const Image image = DrawSmoothPicture(300, 300);
  const Similarity away{0.9, 0.5, 20, 30};
  const FacePoints points = Moved(away, AlignedPoints(112));
  const Image aligned = AlignFace(image, points, 112);
  ASSERT_EQ(aligned.height, 112);
  const Point nose = points[2];
  const Point place = AlignedPoints(112)[2];
  const auto index = [](int x, int y, int width) {
    return static_cast<std::size_t>((y * width + x) * 3);
  };
  EXPECT_NEAR(aligned.pixels[index(static_cast<int>(std::lround(place.x)),
                                   static_cast<int>(std::lround(place.y)), 112)],
              image.pixels[index(static_cast<int>(std::lround(nose.x)),
                                 static_cast<int>(std::lround(nose.y)), 300)],
              8);
}

}  // namespace
}  // namespace fr
