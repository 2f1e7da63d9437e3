#include "worker/data/images/augment.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/random.h"

namespace fr {
namespace {

constexpr int kHeight = 30;
constexpr int kWidth = 40;
using Pixels = std::vector<std::uint8_t>;

Pixels RandomPixels(std::uint64_t seed) {
  Random random(seed);
  Pixels pixels(kHeight * kWidth * 3);
  for (std::uint8_t& value : pixels) value = static_cast<std::uint8_t>(random.Below(256));
  return pixels;
}

std::size_t Index(int y, int x, int channel) {
  return static_cast<std::size_t>((y * kWidth + x) * 3 + channel);
}

Pixels Augmented(const AugmentOptions& options, std::uint64_t key) {
  Pixels pixels = RandomPixels(1);
  Augment(options, key, kHeight, kWidth, pixels.data());
  return pixels;
}

constexpr double AugmentOptions::*kKinds[] = {
    &AugmentOptions::flip,           &AugmentOptions::crop, &AugmentOptions::color,
    &AugmentOptions::low_resolution, &AugmentOptions::blur, &AugmentOptions::cut_out};

// Each kind changes the share of images that it is told to, alike for the same key.
TEST(Augment, ChangesTheShareThatIsAskedFor) {
  constexpr int kImages = 1000;
  for (const auto kind : kKinds) {
    AugmentOptions options;
    options.flip = 0;
    options.*kind = 0.3;
    int changed = 0;
    for (std::uint64_t key = 0; key < kImages; ++key) {
      const Pixels pixels = Augmented(options, key);
      changed += pixels != RandomPixels(1) ? 1 : 0;
      if (key < 10) {
        EXPECT_EQ(pixels, Augmented(options, key));
      }
    }
    // Four standard deviations around 300.
    EXPECT_NEAR(changed, 300, 58);
  }
}

TEST(Augment, NothingIsChangedUnlessAskedFor) {
  AugmentOptions options;
  options.flip = 0;
  for (std::uint64_t key = 0; key < 20; ++key) EXPECT_EQ(Augmented(options, key), RandomPixels(1));
}

// Whether cut-out is on does not change which images are mirrored.
TEST(Augment, KindsDoNotInfluenceEachOther) {
  AugmentOptions flips;
  AugmentOptions both;
  both.cut_out = 0.5;
  for (std::uint64_t key = 0; key < 100; ++key) {
    Pixels expected = Augmented(flips, key);
    const Pixels pixels = Augmented(both, key);
    for (std::size_t i = 0; i < pixels.size(); ++i) {
      EXPECT_TRUE(pixels[i] == expected[i] || pixels[i] == 127);
    }
  }
}

TEST(KeepRectangle, IsBlackOutside) {
  const Pixels before = RandomPixels(2);
  Pixels pixels = before;
  KeepRectangle(3, 20, 5, 38, kHeight, kWidth, pixels.data());
  for (int y = 0; y < kHeight; ++y) {
    for (int x = 0; x < kWidth; ++x) {
      const bool inside = y >= 3 && y < 20 && x >= 5 && x < 38;
      for (int c = 0; c < 3; ++c) {
        EXPECT_EQ(pixels[Index(y, x, c)], inside ? before[Index(y, x, c)] : 0);
      }
    }
  }
}

// By the definitions of torchvision's adjust_brightness, adjust_contrast and adjust_saturation.
TEST(ChangeColors, BlendsWithBlackWithTheMeanAndWithGrey) {
  const auto clamped = [](double value) { return std::clamp(value, 0.0, 255.0); };
  const auto grey = [](const std::vector<double>& pixels, std::size_t i) {
    return 0.299 * pixels[i] + 0.587 * pixels[i + 1] + 0.114 * pixels[i + 2];
  };
  Pixels pixels = RandomPixels(3);
  std::vector<double> expected(pixels.begin(), pixels.end());
  for (double& value : expected) value = clamped(value * 1.3);
  double mean = 0;
  for (std::size_t i = 0; i < expected.size(); i += 3) {
    mean += grey(expected, i) / (kHeight * kWidth);
  }
  for (double& value : expected) value = clamped(0.6 * value + 0.4 * mean);
  for (std::size_t i = 0; i < expected.size(); i += 3) {
    const double own = grey(expected, i);
    for (std::size_t c = 0; c < 3; ++c) {
      expected[i + c] = clamped(1.4 * expected[i + c] - 0.4 * own);
    }
  }
  ChangeColors(1.3, 0.6, 1.4, kHeight, kWidth, pixels.data());
  for (std::size_t i = 0; i < pixels.size(); ++i) EXPECT_NEAR(pixels[i], expected[i], 2.5);
}

TEST(ChangeColors, FactorsOfOneChangeNothing) {
  Pixels pixels = RandomPixels(4);
  ChangeColors(1, 1, 1, kHeight, kWidth, pixels.data());
  EXPECT_EQ(pixels, RandomPixels(4));
}

// Against the two-dimensional sum that defines it.
TEST(Blur, IsAGaussianOverRepeatedBorders) {
  for (const double sigma : {0.3, 1.0, 2.0}) {
    const Pixels before = RandomPixels(5);
    Pixels pixels = before;
    Blur(sigma, kHeight, kWidth, pixels.data());
    const int radius = static_cast<int>(std::ceil(3 * sigma));
    for (const int y : {0, 1, 14, kHeight - 1}) {
      for (const int x : {0, 2, 20, kWidth - 1}) {
        double sum = 0;
        double weights = 0;
        for (int dy = -radius; dy <= radius; ++dy) {
          for (int dx = -radius; dx <= radius; ++dx) {
            const double weight = std::exp(-(dx * dx + dy * dy) / (2 * sigma * sigma));
            sum += weight * before[Index(std::clamp(y + dy, 0, kHeight - 1),
                                         std::clamp(x + dx, 0, kWidth - 1), 1)];
            weights += weight;
          }
        }
        EXPECT_NEAR(pixels[Index(y, x, 1)], sum / weights, 1);
      }
    }
  }
}

TEST(LowerResolution, KeepsWhatIsFlatAndLosesWhatIsFine) {
  Pixels flat(kHeight * kWidth * 3, 77);
  LowerResolution(6, 8, kHeight, kWidth, flat.data());
  EXPECT_THAT(flat, testing::Each(77));
  // A chess board of single pixels becomes grey.
  Pixels board(kHeight * kWidth * 3);
  for (int y = 0; y < kHeight; ++y) {
    for (int x = 0; x < kWidth; ++x) {
      for (int c = 0; c < 3; ++c) {
        board[Index(y, x, c)] = static_cast<std::uint8_t>((x + y) % 2 * 255);
      }
    }
  }
  LowerResolution(6, 8, kHeight, kWidth, board.data());
  for (const std::uint8_t value : board) EXPECT_NEAR(value, 127.5, 16);
}

TEST(CutOut, IsGreyInsideTheSquareAlone) {
  for (const auto& [centre_y, centre_x] : {std::pair{15, 20}, {0, 0}, {29, 39}}) {
    const Pixels before = RandomPixels(6);
    Pixels pixels = before;
    CutOut(centre_y, centre_x, 8, kHeight, kWidth, pixels.data());
    for (int y = 0; y < kHeight; ++y) {
      for (int x = 0; x < kWidth; ++x) {
        const bool inside =
            y >= centre_y - 4 && y < centre_y + 4 && x >= centre_x - 4 && x < centre_x + 4;
        EXPECT_EQ(pixels[Index(y, x, 0)], inside ? 127 : before[Index(y, x, 0)]);
      }
    }
  }
}

}  // namespace
}  // namespace fr
