#pragma once
// Pictures in memory and in files: JPEG (libjpeg-turbo), PNG (libpng), PGM and PPM.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace fr {

// ".jpg", ".png", ".pgm" or ".ppm" by the first bytes of a picture; empty for what is none.
std::string_view PictureExtension(std::string_view bytes);

struct Image {
  int height = 0;
  int width = 0;
  std::vector<std::uint8_t> pixels;  // RGB, [height, width, 3]
};

// Whether the name ends as those of such files do: .jpg, .jpeg, .png, .pgm, .ppm, in any case.
bool IsPictureName(const std::filesystem::path& path);

// Grey pictures become RGB, transparency is dropped. Throws Error(kDataLoss) with the decoder's
// words for what is no picture of these kinds, is truncated, or is larger than 16384 x 16384.
// Thread-safe.
Image DecodeImage(std::string_view bytes);

// As DecodeImage, of a picture that must be `height` x `width`, into `pixels`
// ([height, width, 3] of the caller).
void DecodeImageInto(std::string_view bytes, int height, int width, std::uint8_t* pixels);

// How sets that we write store pictures that they do not keep as they are.
inline constexpr int kStoredJpegQuality = 95;

// `quality` 1..100, colours at half resolution as cameras have it. Thread-safe.
std::string EncodeJpeg(const Image& image, int quality);

// Each new pixel is the triangle-weighted mean of the old ones below it: shrinking does not alias,
// and enlarging is bilinear.
Image Resize(const Image& image, int height, int width);

// Scaled until it covers `height` x `width`, then cropped around the centre. As Resize
// does.
Image ResizeToCover(const Image& image, int height, int width);

// As sets store it: `side` x `side`, by ResizeToCover where it has another size.
std::string EncodeForSet(const Image& image, int side);

// Left and right exchanged, in place; `pixels` [height, width, 3].
void FlipHorizontally(int height, int width, std::uint8_t* pixels);

}  // namespace fr
