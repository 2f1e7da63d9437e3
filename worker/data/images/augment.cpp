#include "worker/data/images/augment.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "common/base/random.h"
#include "worker/data/images/float_pixel.h"
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

float Clamp(float value) { return std::min(std::max(value, 0.0F), 255.0F); }

float GreyOf(const FloatPixel& pixel) {
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

// out[i] = the sum of taps[|k|] in[i + k step], for `count` values i. Plain loops over neighbours
// in memory, which the compiler makes vectors of.
void Convolve(const std::vector<float>& taps, std::ptrdiff_t step, std::ptrdiff_t count,
              const float* in, float* out) {
  for (std::ptrdiff_t i = 0; i < count; ++i) out[i] = taps[0] * in[i];
  for (std::size_t k = 1; k < taps.size(); ++k) {
    const float weight = taps[k];
    const float* before = in - static_cast<std::ptrdiff_t>(k) * step;
    const float* after = in + static_cast<std::ptrdiff_t>(k) * step;
    for (std::ptrdiff_t i = 0; i < count; ++i) out[i] += weight * (before[i] + after[i]);
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
  const std::size_t count = static_cast<std::size_t>(height) * static_cast<std::size_t>(width) * 3;
  static thread_local std::vector<float> values;  // large: asked for once
  static thread_local std::vector<float> changed;
  values.resize(count + 1);
  changed.resize(count + 1);
  const auto bright = static_cast<float>(brightness);
  for (std::size_t i = 0; i < count; ++i) values[i] = Clamp(bright * pixels[i]);

  FloatPixel sum = {};
  for (std::size_t i = 0; i < count; i += 3) sum += LoadPixel(&values[i]);
  const float mean = GreyOf(sum) * 3 / static_cast<float>(count);
  const auto factor = static_cast<float>(contrast);
  const float offset = mean * (1 - factor);
  for (std::size_t i = 0; i < count; ++i) values[i] = Clamp(values[i] * factor + offset);

  const auto vivid = static_cast<float>(saturation);
  for (std::size_t i = 0; i < count; i += 3) {
    const FloatPixel pixel = LoadPixel(&values[i]);
    StorePixel(pixel * vivid + GreyOf(pixel) * (1 - vivid), &changed[i]);
  }
  ToBytes(changed.data(), count, pixels);
}

void LowerResolution(int small_height, int small_width, int height, int width,
                     std::uint8_t* pixels) {
  Image image{height, width, {pixels, At(pixels, width, height, 0)}};
  image = Resize(Resize(image, small_height, small_width), height, width);
  std::copy(image.pixels.begin(), image.pixels.end(), pixels);
}

void Blur(double sigma, int height, int width, std::uint8_t* pixels) {
  const std::vector<float> taps = GaussianTaps(sigma);
  const int radius = static_cast<int>(taps.size()) - 1;
  const std::ptrdiff_t stride = static_cast<std::ptrdiff_t>(width) * 3;
  std::vector<float> row(static_cast<std::size_t>((width + 2 * radius) * 3));
  static thread_local std::vector<float> rows;  // large: asked for once
  rows.resize(static_cast<std::size_t>((height + 2 * radius) * stride));
  const auto row_at = [&](int y) { return rows.data() + (y + radius) * stride; };
  for (int y = 0; y < height; ++y) {
    const std::uint8_t* from = pixels + y * stride;
    float* inside = row.data() + radius * 3;
    std::copy(from, from + stride, inside);
    for (int x = 0; x < radius * 3; ++x) {
      row[static_cast<std::size_t>(x)] = from[x % 3];
      inside[stride + x] = from[stride - 3 + x % 3];
    }
    Convolve(taps, 3, stride, inside, row_at(y));
  }
  for (int k = 1; k <= radius; ++k) {
    std::copy_n(row_at(0), stride, row_at(-k));
    std::copy_n(row_at(height - 1), stride, row_at(height - 1 + k));
  }
  std::vector<float> blurred(static_cast<std::size_t>(stride));
  for (int y = 0; y < height; ++y) {
    Convolve(taps, stride, stride, row_at(y), blurred.data());
    ToBytes(blurred.data(), blurred.size(), pixels + y * stride);
  }
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
