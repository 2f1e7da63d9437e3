#include "worker/data/images/augment.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <vector>

#include "common/base/random.h"
#include "worker/data/images/image.h"

namespace fr {
namespace {

// Each kind draws from a stream of its own.
enum Stream : std::uint64_t {
  kFlip = 1,
  kCrop,
  kColor,
  kLowResolution,
  kBlur,
  kCutOut,
};

std::uint8_t* At(std::uint8_t* pixels, int width, int y, int x) {
  return pixels + (static_cast<std::ptrdiff_t>(y) * width + x) * 3;
}

std::uint8_t ToByte(float value) {
  return static_cast<std::uint8_t>(std::clamp(value, 0.0F, 255.0F) + 0.5F);
}

float Grey(const std::uint8_t* pixel) {
  return 0.299F * pixel[0] + 0.587F * pixel[1] + 0.114F * pixel[2];
}

void Crop(Random random, int height, int width, std::uint8_t* pixels) {
  const double area = random.Uniform(0.2, 1.0) * height * width;
  const double ratio = std::exp(random.Uniform(std::log(3.0 / 4), std::log(4.0 / 3)));
  const int rows = std::clamp(static_cast<int>(std::lround(std::sqrt(area / ratio))), 1, height);
  const int columns = std::clamp(static_cast<int>(std::lround(std::sqrt(area * ratio))), 1, width);
  const int top = static_cast<int>(random.Below(height - rows + 1));
  const int left = static_cast<int>(random.Below(width - columns + 1));
  KeepRectangle(top, top + rows, left, left + columns, height, width, pixels);
}

void Color(Random random, int height, int width, std::uint8_t* pixels) {
  const double brightness = random.Uniform(0.5, 1.5);
  const double contrast = random.Uniform(0.5, 1.5);
  const double saturation = random.Uniform(0.5, 1.5);
  ChangeColors(brightness, contrast, saturation, height, width, pixels);
}

void LowResolution(Random random, int height, int width, std::uint8_t* pixels) {
  const double share = random.Uniform(0.2, 1.0);
  LowerResolution(std::max(1, static_cast<int>(height * share)),
                  std::max(1, static_cast<int>(width * share)), height, width, pixels);
}

void Cut(Random random, int height, int width, std::uint8_t* pixels) {
  const int side =
      std::max(1, static_cast<int>(random.Uniform(0.2, 0.5) * std::min(height, width)));
  const int y = static_cast<int>(random.Below(height));
  const int x = static_cast<int>(random.Below(width));
  CutOut(y, x, side, height, width, pixels);
}

// Weights of a Gaussian at 0, 1, ... 3 sigma, which sum to 1 with their mirror images.
std::vector<float> GaussianTaps(double sigma) {
  const int radius = static_cast<int>(std::ceil(3 * sigma));
  std::vector<float> taps;
  double sum = 0;
  for (int i = 0; i <= radius; ++i) {
    const double weight = std::exp(-0.5 * i * i / (sigma * sigma));
    taps.push_back(static_cast<float>(weight));
    sum += i == 0 ? weight : 2 * weight;
  }
  for (float& tap : taps) tap /= static_cast<float>(sum);
  return taps;
}

// `count` values, `stride` apart from their neighbours in the direction of the blur, of which there
// are `length` after each other.
void BlurRows(const std::vector<float>& taps, int length, std::ptrdiff_t stride, const float* from,
              float* to) {
  const int radius = static_cast<int>(taps.size()) - 1;
  for (int i = 0; i < length; ++i) {
    const float* centre = from + i * stride;
    float* out = to + i * stride;
    for (std::ptrdiff_t c = 0; c < stride; ++c) out[c] = taps[0] * centre[c];
    for (int k = 1; k <= radius; ++k) {
      const float* before = from + std::max(i - k, 0) * stride;
      const float* after = from + std::min(i + k, length - 1) * stride;
      const float weight = taps[static_cast<std::size_t>(k)];
      for (std::ptrdiff_t c = 0; c < stride; ++c) out[c] += weight * (before[c] + after[c]);
    }
  }
}

}  // namespace

void KeepRectangle(int top, int bottom, int left, int right, int height, int width,
                   std::uint8_t* pixels) {
  for (int y = 0; y < height; ++y) {
    const bool inside = y >= top && y < bottom;
    std::fill(At(pixels, width, y, 0), At(pixels, width, y, inside ? left : width), 0);
    if (inside) std::fill(At(pixels, width, y, right), At(pixels, width, y, width), 0);
  }
}

void ChangeColors(double brightness, double contrast, double saturation, int height, int width,
                  std::uint8_t* pixels) {
  const std::ptrdiff_t count = static_cast<std::ptrdiff_t>(height) * width;
  const auto bright = static_cast<float>(brightness);
  double sum = 0;
  for (std::ptrdiff_t i = 0; i < count; ++i) {
    std::uint8_t* pixel = pixels + i * 3;
    for (int c = 0; c < 3; ++c) pixel[c] = ToByte(pixel[c] * bright);
    sum += Grey(pixel);
  }
  const auto factor = static_cast<float>(contrast);
  const auto mean = static_cast<float>(sum / static_cast<double>(count));
  const auto vivid = static_cast<float>(saturation);
  for (std::ptrdiff_t i = 0; i < count; ++i) {
    std::uint8_t* pixel = pixels + i * 3;
    for (int c = 0; c < 3; ++c) pixel[c] = ToByte(mean + factor * (pixel[c] - mean));
    const float grey = Grey(pixel);
    for (int c = 0; c < 3; ++c) pixel[c] = ToByte(grey + vivid * (pixel[c] - grey));
  }
}

void LowerResolution(int small_height, int small_width, int height, int width,
                     std::uint8_t* pixels) {
  Image image{height, width, {pixels, At(pixels, width, height, 0)}};
  image = Resize(Resize(image, small_height, small_width), height, width);
  std::copy(image.pixels.begin(), image.pixels.end(), pixels);
}

void Blur(double sigma, int height, int width, std::uint8_t* pixels) {
  const std::vector<float> taps = GaussianTaps(sigma);
  const auto count = static_cast<std::size_t>(height) * static_cast<std::size_t>(width) * 3;
  std::vector<float> values(pixels, pixels + count);
  std::vector<float> along_rows(count);
  for (int y = 0; y < height; ++y) {
    const std::ptrdiff_t row = static_cast<std::ptrdiff_t>(y) * width * 3;
    BlurRows(taps, width, 3, values.data() + row, along_rows.data() + row);
  }
  BlurRows(taps, height, static_cast<std::ptrdiff_t>(width) * 3, along_rows.data(), values.data());
  std::transform(values.begin(), values.end(), pixels, ToByte);
}

void CutOut(int centre_y, int centre_x, int side, int height, int width, std::uint8_t* pixels) {
  const int left = std::max(centre_x - side / 2, 0);
  const int right = std::min(centre_x - side / 2 + side, width);
  for (int y = std::max(centre_y - side / 2, 0); y < std::min(centre_y - side / 2 + side, height);
       ++y) {
    std::fill(At(pixels, width, y, left), At(pixels, width, y, right), 127);
  }
}

void Augment(const AugmentOptions& options, std::uint64_t key, int height, int width,
             std::uint8_t* pixels) {
  // Draws whether; what it goes on drawing says how.
  const auto chosen = [key](Stream stream, double share, Random* random) {
    if (share <= 0) return false;
    *random = Random(MixKeys(key, stream));
    return random->Chance(share);
  };
  Random random(0);
  if (chosen(kCrop, options.crop, &random)) Crop(random, height, width, pixels);
  if (chosen(kColor, options.color, &random)) Color(random, height, width, pixels);
  if (chosen(kLowResolution, options.low_resolution, &random)) {
    LowResolution(random, height, width, pixels);
  }
  if (chosen(kBlur, options.blur, &random)) {
    Blur(random.Uniform(0.3, 2.0), height, width, pixels);
  }
  if (chosen(kCutOut, options.cut_out, &random)) Cut(random, height, width, pixels);
  if (chosen(kFlip, options.flip, &random)) FlipHorizontally(height, width, pixels);
}

}  // namespace fr
