#include "worker/data/images/similarity.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/base/error.h"

namespace fr {
namespace {

// OpenCV's fixed point: coordinates in 1/1024, rounded to 1/32 pixel.
constexpr int kCoordinateBits = 10;
constexpr int kStepBits = 5;
constexpr int kSteps = 1 << kStepBits;

constexpr FacePoints kAlignedAt112 = {{{38.2946, 51.6963},
                                       {73.5318, 51.5014},
                                       {56.0252, 71.7366},
                                       {41.5493, 92.3655},
                                       {70.7299, 92.2041}}};

Point CentreOf(const FacePoints& points) {
  Point sum;
  for (const Point& point : points) {
    sum.x += point.x;
    sum.y += point.y;
  }
  return {sum.x / static_cast<double>(points.size()), sum.y / static_cast<double>(points.size())};
}

Similarity Inverse(const Similarity& transform) {
  const double squared = transform.a * transform.a + transform.b * transform.b;
  Similarity inverse{transform.a / squared, -transform.b / squared, 0, 0};
  const Point moved = inverse({transform.tx, transform.ty});
  inverse.tx = -moved.x;
  inverse.ty = -moved.y;
  return inverse;
}

// As OpenCV's saturate_cast: to the nearest, halves to even, clamped.
std::int32_t ToFixed(double value) {
  constexpr double kLow = std::numeric_limits<std::int32_t>::min();
  constexpr double kHigh = std::numeric_limits<std::int32_t>::max();
  return static_cast<std::int32_t>(std::nearbyint(std::clamp(value, kLow, kHigh)));
}

// Where an output row reads: at 1/32 pixels of the source, by column.
struct RowOfSource {
  std::vector<std::int64_t> step_x;  // [width], from the start of the row
  std::vector<std::int64_t> step_y;
  std::int64_t x0 = 0;
  std::int64_t y0 = 0;

  std::int64_t X(std::size_t column) const {
    return (x0 + step_x[column]) >> (kCoordinateBits - kStepBits);
  }
  std::int64_t Y(std::size_t column) const {
    return (y0 + step_y[column]) >> (kCoordinateBits - kStepBits);
  }
};

struct Weights {
  int w00, w01, w10, w11;  // [row][column], of 1024

  Weights(std::int64_t x, std::int64_t y) {
    const int right = static_cast<int>(x & (kSteps - 1));
    const int down = static_cast<int>(y & (kSteps - 1));
    w00 = (kSteps - down) * (kSteps - right);
    w01 = (kSteps - down) * right;
    w10 = down * (kSteps - right);
    w11 = down * right;
  }

  std::uint8_t Mean(int p00, int p01, int p10, int p11) const {
    constexpr int kHalf = kSteps * kSteps / 2;
    return static_cast<std::uint8_t>((w00 * p00 + w01 * p01 + w10 * p10 + w11 * p11 + kHalf) >>
                                     (2 * kStepBits));
  }
};

class Warper {
 public:
  explicit Warper(const Image& image) : image_(image) {}

  // All four neighbours lie in the image.
  void Inside(std::int64_t x, std::int64_t y, std::uint8_t* out) const {
    const Weights weights(x, y);
    const std::ptrdiff_t stride = static_cast<std::ptrdiff_t>(image_.width) * 3;
    const std::uint8_t* top =
        image_.pixels.data() + (y >> kStepBits) * stride + (x >> kStepBits) * 3;
    for (std::ptrdiff_t c = 0; c < 3; ++c) {
      out[c] = weights.Mean(top[c], top[c + 3], top[c + stride], top[c + stride + 3]);
    }
  }

  // Neighbours outside the image are black.
  void AtBorder(std::int64_t x, std::int64_t y, std::uint8_t* out) const {
    const Weights weights(x, y);
    const std::int64_t left = x >> kStepBits;
    const std::int64_t top = y >> kStepBits;
    for (int c = 0; c < 3; ++c) {
      out[c] = weights.Mean(PixelOrBlack(left, top, c), PixelOrBlack(left + 1, top, c),
                            PixelOrBlack(left, top + 1, c), PixelOrBlack(left + 1, top + 1, c));
    }
  }

  bool IsInside(std::int64_t x, std::int64_t y) const {
    return x >= 0 && y >= 0 && (x >> kStepBits) < image_.width - 1 &&
           (y >> kStepBits) < image_.height - 1;
  }

 private:
  int PixelOrBlack(std::int64_t x, std::int64_t y, int c) const {
    if (x < 0 || y < 0 || x >= image_.width || y >= image_.height) return 0;
    return image_.pixels[static_cast<std::size_t>((y * image_.width + x) * 3 + c)];
  }

  const Image& image_;
};

}  // namespace

FacePoints AlignedPoints(int side) {
  FacePoints points = kAlignedAt112;
  for (Point& point : points) {
    point.x *= side / 112.0;
    point.y *= side / 112.0;
  }
  return points;
}

// With points as complex numbers around their centres, the best factor is
// sum(conj(from) to) / sum(|from|^2): the similarity of Umeyama's formula in two dimensions,
// without a decomposition.
Similarity FitSimilarity(const FacePoints& from, const FacePoints& to) {
  const Point from_centre = CentreOf(from);
  const Point to_centre = CentreOf(to);
  double spread = 0;
  double real = 0;
  double imaginary = 0;
  for (std::size_t i = 0; i < from.size(); ++i) {
    const double fx = from[i].x - from_centre.x;
    const double fy = from[i].y - from_centre.y;
    const double tx = to[i].x - to_centre.x;
    const double ty = to[i].y - to_centre.y;
    spread += fx * fx + fy * fy;
    real += fx * tx + fy * ty;
    imaginary += fx * ty - fy * tx;
  }
  Similarity fit{real / spread, imaginary / spread, 0, 0};
  const double scale = std::hypot(fit.a, fit.b);
  constexpr double kSmallest = 1e-6;  // a face of a million pixels becomes one
  if (!(spread > 0) || !(scale > kSmallest) || !std::isfinite(scale)) {
    throw Error(ErrorCode::kInvalidArgument,
                "the five points are those of no face: they are no numbers, lie in one place, or "
                "determine no direction");
  }
  const Point moved = fit(from_centre);
  fit.tx = to_centre.x - moved.x;
  fit.ty = to_centre.y - moved.y;
  return fit;
}

Image WarpSimilarity(const Image& image, const Similarity& transform, int height, int width) {
  const Similarity source = Inverse(transform);
  constexpr double kOne = 1 << kCoordinateBits;
  constexpr std::int64_t kHalfStep = 1 << (kCoordinateBits - kStepBits - 1);
  const auto columns = static_cast<std::size_t>(width);
  RowOfSource row;
  for (int x = 0; x < width; ++x) {
    row.step_x.push_back(ToFixed(source.a * x * kOne));
    row.step_y.push_back(ToFixed(source.b * x * kOne));
  }
  const Warper warper(image);
  Image warped{height, width,
               std::vector<std::uint8_t>(columns * static_cast<std::size_t>(height) * 3)};
  std::uint8_t* out = warped.pixels.data();
  for (int y = 0; y < height; ++y) {
    row.x0 = ToFixed((-source.b * y + source.tx) * kOne) + kHalfStep;
    row.y0 = ToFixed((source.a * y + source.ty) * kOne) + kHalfStep;
    // The image is convex: what of the row lies inside is one stretch of it.
    std::size_t begin = 0;
    while (begin < columns && !warper.IsInside(row.X(begin), row.Y(begin))) ++begin;
    std::size_t end = columns;
    while (end > begin && !warper.IsInside(row.X(end - 1), row.Y(end - 1))) --end;
    for (std::size_t x = 0; x < begin; ++x) warper.AtBorder(row.X(x), row.Y(x), out + x * 3);
    for (std::size_t x = begin; x < end; ++x) warper.Inside(row.X(x), row.Y(x), out + x * 3);
    for (std::size_t x = end; x < columns; ++x) warper.AtBorder(row.X(x), row.Y(x), out + x * 3);
    out += columns * 3;
  }
  return warped;
}

Image AlignFace(const Image& image, const FacePoints& points, int side) {
  return WarpSimilarity(image, FitSimilarity(points, AlignedPoints(side)), side, side);
}

}  // namespace fr
