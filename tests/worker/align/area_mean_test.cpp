#include "worker/align/area_mean.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "common/base/random.h"

namespace fr {
namespace {

Image Noise(int height, int width) {
  Random random(1);
  Image image{height, width, {}};
  for (int i = 0; i < height * width * 3; ++i) {
    image.pixels.push_back(static_cast<std::uint8_t>(random.Below(256)));
  }
  return image;
}

// The definition, in double precision.
double Mean(const Image& image, const PixelRectangle& part, int height, int width, int y, int x,
            int c) {
  const int rows = part.bottom - part.top;
  const int columns = part.right - part.left;
  double sum = 0;
  int count = 0;
  for (int row = y * rows / height; row < std::ceil((y + 1.0) * rows / height); ++row) {
    for (int column = x * columns / width; column < std::ceil((x + 1.0) * columns / width);
         ++column, ++count) {
      const int at = ((part.top + row) * image.width + part.left + column) * 3 + c;
      sum += image.pixels[static_cast<std::size_t>(at)];
    }
  }
  return (sum / count - 127.5) / 128;
}

TEST(AreaMean, EachPixelIsTheMeanOfThoseThatItTouches) {
  const Image image = Noise(40, 30);
  const std::vector<PixelRectangle> parts = {{0, 0, 30, 40}, {3, 5, 29, 12}, {29, 39, 30, 40}};
  for (const PixelRectangle& part : parts) {
    for (const auto& [height, width] :
         std::vector<std::pair<int, int>>{{24, 24}, {7, 13}, {1, 1}}) {
      std::vector<float> out(static_cast<std::size_t>(3 * height * width));
      AreaMean(image, part, height, width, out.data());
      for (int c = 0; c < 3; ++c) {
        for (int y = 0; y < height; ++y) {
          for (int x = 0; x < width; ++x) {
            EXPECT_NEAR(out[static_cast<std::size_t>((c * height + y) * width + x)],
                        Mean(image, part, height, width, y, x, c), 1e-6);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace fr
