#include "worker/data/images/image.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstring>
#include <memory>

#include <fmt/format.h>
#include <png.h>
#include <turbojpeg.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "worker/data/images/float_pixel.h"

namespace fr {
namespace {

constexpr int kMaxSide = 16384;

[[noreturn]] void ThrowBroken(const std::string& cause) {
  throw Error(ErrorCode::kDataLoss, cause);
}

void CheckSize(int height, int width) {
  if (height < 1 || width < 1 || height > kMaxSide || width > kMaxSide) {
    ThrowBroken(fmt::format("a picture of {} x {} pixels; up to {} x {} are read", width, height,
                            kMaxSide, kMaxSide));
  }
}

// A codec holds buffers that are worth keeping; it is not thread-safe, so each thread has its own.
using Codec = std::unique_ptr<void, int (*)(void*)>;

Codec& ThreadDecoder() {
  thread_local Codec handle(tjInitDecompress(), tjDestroy);
  return handle;
}

tjhandle ThreadEncoder() {
  thread_local const Codec handle(tjInitCompress(), tjDestroy);
  return handle.get();
}

// Finds the size, asks `place` for memory of height * width * 3 bytes, decodes into it.
template <typename Place>
void DecodeJpeg(std::string_view bytes, const Place& place) {
  tjhandle decoder = ThreadDecoder().get();
  const auto* data = reinterpret_cast<const unsigned char*>(bytes.data());
  int width = 0;
  int height = 0;
  int subsampling = 0;
  int colorspace = 0;
  if (tjDecompressHeader3(decoder, data, bytes.size(), &width, &height, &subsampling,
                          &colorspace) != 0) {
    const std::string message = tjGetErrorStr2(decoder);
    // It would go on in the middle of this picture, and find fault with the next one.
    ThreadDecoder().reset(tjInitDecompress());
    ThrowBroken(fmt::format("JPEG: {}", message));
  }
  CheckSize(height, width);
  std::uint8_t* pixels = place(height, width);
  if (tjDecompress2(decoder, data, bytes.size(), pixels, width, 0, height, TJPF_RGB, 0) == 0)
    return;
  // libjpeg warns of many harmless oddities, which the field's sets have, but also of a truncated
  // picture, whose rest it paints grey.
  const std::string message = tjGetErrorStr2(decoder);
  if (tjGetErrorCode(decoder) != TJERR_WARNING || message.find("Premature") != std::string::npos) {
    ThrowBroken(fmt::format("JPEG: {}", message));
  }
}

template <typename Place>
void DecodePng(std::string_view bytes, const Place& place) {
  png_image png = {};
  png.version = PNG_IMAGE_VERSION;
  const auto fail = [&png] {
    const std::string message = png.message;
    png_image_free(&png);
    ThrowBroken(fmt::format("PNG: {}", message));
  };
  if (png_image_begin_read_from_memory(&png, bytes.data(), bytes.size()) == 0) fail();
  if (png.width > kMaxSide || png.height > kMaxSide) {
    png_image_free(&png);
    CheckSize(kMaxSide + 1, kMaxSide + 1);
  }
  png.format = PNG_FORMAT_RGB;
  std::uint8_t* pixels = place(static_cast<int>(png.height), static_cast<int>(png.width));
  if (png_image_finish_read(&png, nullptr, pixels, 0, nullptr) == 0) fail();
}

// "P5 92 112 255\n", comments allowed; returns where the pixels begin.
std::size_t ParsePnmHeader(std::string_view bytes, std::array<int, 3>* numbers) {
  std::size_t at = 2;
  for (int& number : *numbers) {
    while (at < bytes.size() &&
           (std::isspace(static_cast<unsigned char>(bytes[at])) != 0 || bytes[at] == '#')) {
      if (bytes[at] == '#') at = std::min(bytes.find('\n', at), bytes.size() - 1);
      ++at;
    }
    const auto [end, error] =
        std::from_chars(bytes.data() + at, bytes.data() + bytes.size(), number);
    if (error != std::errc()) ThrowBroken("PGM: width, height and 255 are expected");
    at = static_cast<std::size_t>(end - bytes.data());
  }
  return at + 1;  // one blank
}

template <typename Place>
void DecodePnm(std::string_view bytes, const Place& place) {
  std::array<int, 3> numbers = {};  // width, height, largest value
  const std::size_t begin = ParsePnmHeader(bytes, &numbers);
  const auto [width, height, largest] = numbers;
  CheckSize(height, width);
  if (largest != 255) ThrowBroken("PGM: only 8-bit pictures (largest value 255) are read");
  const std::size_t channels = bytes[1] == '6' ? 3 : 1;
  const std::size_t count = static_cast<std::size_t>(width) * static_cast<std::size_t>(height);
  if (bytes.size() < begin + count * channels) ThrowBroken("PGM: truncated");
  std::uint8_t* pixels = place(height, width);
  const char* from = bytes.data() + begin;
  for (std::size_t i = 0; i < count * 3; ++i) {
    pixels[i] = static_cast<std::uint8_t>(from[channels == 3 ? i : i / 3]);
  }
}

template <typename Place>
void Decode(std::string_view bytes, const Place& place) {
  const std::string_view extension = PictureExtension(bytes);
  if (extension == ".jpg") {
    DecodeJpeg(bytes, place);
  } else if (extension == ".png") {
    DecodePng(bytes, place);
  } else if (!extension.empty()) {
    DecodePnm(bytes, place);
  } else {
    ThrowBroken(bytes.empty() ? "no bytes where a picture should be"
                              : "neither JPEG nor PNG nor PGM/PPM");
  }
}

// For each new pixel along one side: the old ones that make it up.
struct Taps {
  int first = 0;
  std::vector<float> weights;
};

// `scale`: old pixels per new one; `origin`: where the crop begins, in old pixels.
std::vector<Taps> MakeTaps(int old_size, int new_size, double scale, double origin) {
  std::vector<Taps> all(static_cast<std::size_t>(new_size));
  const double radius = std::max(scale, 1.0);
  for (int i = 0; i < new_size; ++i) {
    const double centre = origin + (i + 0.5) * scale - 0.5;
    Taps& taps = all[static_cast<std::size_t>(i)];
    taps.first = std::clamp(static_cast<int>(std::ceil(centre - radius)), 0, old_size - 1);
    const int last = std::clamp(static_cast<int>(std::floor(centre + radius)), 0, old_size - 1);
    float sum = 0;
    for (int j = taps.first; j <= last; ++j) {
      taps.weights.push_back(static_cast<float>(std::max(1e-6, 1 - std::abs(j - centre) / radius)));
      sum += taps.weights.back();
    }
    for (float& weight : taps.weights) weight /= sum;
  }
  return all;
}

// Pictures [height, width, 3] in floats, with one more behind the last (float_pixel.h).
using Floats = std::vector<float>;

// Each of `rows` of the result is a weighted sum of rows of `from` [any, row_size].
void MixRows(const Floats& from, std::size_t row_size, const std::vector<Taps>& rows,
             Floats* mixed) {
  mixed->resize(rows.size() * row_size + 1);
  float* to = mixed->data();
  for (const Taps& taps : rows) {
    const float* row = &from[static_cast<std::size_t>(taps.first) * row_size];
    for (std::size_t i = 0; i < row_size; ++i) to[i] = taps.weights[0] * row[i];
    for (std::size_t k = 1; k < taps.weights.size(); ++k) {
      row += row_size;
      const float weight = taps.weights[k];
      for (std::size_t i = 0; i < row_size; ++i) to[i] += weight * row[i];
    }
    to += row_size;
  }
}

// Each of `columns` of the result is a weighted sum of columns of `from` [height, width, 3].
void MixColumns(const Floats& from, std::size_t height, std::size_t width,
                const std::vector<Taps>& columns, Floats* mixed) {
  mixed->resize(height * columns.size() * 3 + 1);
  float* to = mixed->data();
  for (std::size_t y = 0; y < height; ++y) {
    for (const Taps& taps : columns) {
      const float* pixel = &from[(y * width + static_cast<std::size_t>(taps.first)) * 3];
      FloatPixel sum = {};
      for (const float weight : taps.weights) {
        sum += weight * LoadPixel(pixel);
        pixel += 3;
      }
      StorePixel(sum, to);
      to += 3;
    }
  }
}

// Columns cost more than rows, whose values are neighbours in memory: they are mixed where there
// are fewer of them.
Image Resample(const Image& image, const std::vector<Taps>& rows,
               const std::vector<Taps>& columns) {
  const auto height = static_cast<std::size_t>(image.height);
  const auto width = static_cast<std::size_t>(image.width);
  static thread_local Floats pixels;  // large: asked for once
  static thread_local Floats half;
  static thread_local Floats mixed;
  pixels.resize(image.pixels.size() + 1);
  std::copy(image.pixels.begin(), image.pixels.end(), pixels.begin());
  if (rows.size() < height) {
    MixRows(pixels, width * 3, rows, &half);
    MixColumns(half, rows.size(), width, columns, &mixed);
  } else {
    MixColumns(pixels, height, width, columns, &half);
    MixRows(half, columns.size() * 3, rows, &mixed);
  }
  Image resized{static_cast<int>(rows.size()), static_cast<int>(columns.size()), {}};
  resized.pixels.resize(rows.size() * columns.size() * 3);
  ToBytes(mixed.data(), resized.pixels.size(), resized.pixels.data());
  return resized;
}

// `from` [width, 3] from right to left into `to`.
void FlipRowByPixels(const std::uint8_t* from, int width, std::uint8_t* to) {
  for (const std::uint8_t* pixel = from + (width - 1) * 3; pixel >= from; pixel -= 3, to += 3) {
    std::copy(pixel, pixel + 3, to);
  }
}

// As FlipRowByPixels, five pixels at a time: all that fit into a vector of 16 bytes.
#if defined(__x86_64__)
__attribute__((target("ssse3")))
#endif
void FlipRow(const std::uint8_t* from, int width, std::uint8_t* to) {
  using Vector = std::uint8_t __attribute__((vector_size(16)));
  const std::uint8_t* right = from + width * 3;
  // The sixteenth byte is overwritten by the next vector; the last six pixels are left for the loop
  // below, so that it never lies behind the row.
  for (; right - from >= 18; right -= 15, to += 15) {
    Vector pixels;
    std::memcpy(&pixels, right - 16, sizeof(pixels));
    pixels = __builtin_shufflevector(pixels, pixels, 13, 14, 15, 10, 11, 12, 7, 8, 9, 4, 5, 6, 1, 2,
                                     3, 0);
    std::memcpy(to, &pixels, sizeof(pixels));
  }
  FlipRowByPixels(from, static_cast<int>(right - from) / 3, to);
}

}  // namespace

bool IsPictureName(const std::filesystem::path& path) {
  static constexpr std::string_view kKnown[] = {".jpg", ".jpeg", ".png", ".pgm", ".ppm"};
  return std::find(std::begin(kKnown), std::end(kKnown), LowerExtension(path)) != std::end(kKnown);
}

std::string_view PictureExtension(std::string_view bytes) {
  if (bytes.starts_with("\xff\xd8")) return ".jpg";
  if (bytes.starts_with("\x89PNG")) return ".png";
  if (bytes.starts_with("P5")) return ".pgm";
  if (bytes.starts_with("P6")) return ".ppm";
  return "";
}

Image DecodeImage(std::string_view bytes) {
  Image image;
  Decode(bytes, [&image](int height, int width) {
    image.height = height;
    image.width = width;
    image.pixels.resize(static_cast<std::size_t>(height) * static_cast<std::size_t>(width) * 3);
    return image.pixels.data();
  });
  return image;
}

void DecodeImageInto(std::string_view bytes, int height, int width, std::uint8_t* pixels) {
  Decode(bytes, [=](int real_height, int real_width) {
    if (real_height != height || real_width != width) {
      ThrowBroken(fmt::format("a picture of {} x {} pixels where all are {} x {}", real_width,
                              real_height, width, height));
    }
    return pixels;
  });
}

std::string EncodeJpeg(const Image& image, int quality) {
  tjhandle encoder = ThreadEncoder();
  unsigned char* buffer = nullptr;
  unsigned long size = 0;
  const int failed = tjCompress2(encoder, image.pixels.data(), image.width, 0, image.height,
                                 TJPF_RGB, &buffer, &size, TJSAMP_420, quality, 0);
  const std::unique_ptr<unsigned char, void (*)(unsigned char*)> owner(buffer, tjFree);
  if (failed != 0) {
    throw Error(ErrorCode::kInternal, fmt::format("JPEG: {}", tjGetErrorStr2(encoder)));
  }
  return {reinterpret_cast<const char*>(buffer), size};
}

Image Resize(const Image& image, int height, int width) {
  return Resample(image,
                  MakeTaps(image.height, height, static_cast<double>(image.height) / height, 0),
                  MakeTaps(image.width, width, static_cast<double>(image.width) / width, 0));
}

Image ResizeToCover(const Image& image, int height, int width) {
  const double scale = std::min(static_cast<double>(image.height) / height,
                                static_cast<double>(image.width) / width);
  return Resample(image, MakeTaps(image.height, height, scale, (image.height - height * scale) / 2),
                  MakeTaps(image.width, width, scale, (image.width - width * scale) / 2));
}

std::string EncodeForSet(const Image& image, int side) {
  const bool fits = image.height == side && image.width == side;
  return EncodeJpeg(fits ? image : ResizeToCover(image, side, side), kStoredJpegQuality);
}

void FlipHorizontally(int height, int width, std::uint8_t* pixels) {
#if defined(__x86_64__)
  static const bool has_byte_shuffles = __builtin_cpu_supports("ssse3") != 0;
#else
  constexpr bool has_byte_shuffles = true;
#endif
  const auto flip = has_byte_shuffles ? FlipRow : FlipRowByPixels;
  const std::ptrdiff_t stride = static_cast<std::ptrdiff_t>(width) * 3;
  std::vector<std::uint8_t> row(static_cast<std::size_t>(stride));
  for (std::uint8_t* at = pixels; at != pixels + height * stride; at += stride) {
    std::copy(at, at + stride, row.begin());
    flip(row.data(), width, at);
  }
}

}  // namespace fr
