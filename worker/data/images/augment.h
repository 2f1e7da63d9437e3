#pragma once
// Random changes to training images, so that the network learns what does not matter.

#include <cstdint>

namespace fr {

// Each is the share of images that are changed so; the choices are independent of each other.
struct AugmentOptions {
  double flip = 0.5;  // left and right exchanged

  // The three of AdaFace (Kim, Jain and Liu, 2022, section 4.1), there with 0.2 each.
  // A rectangle of 20 to 100 % of the area and a ratio of sides of 3:4 to 4:3 stays; black around.
  double crop = 0;
  // Brightness, contrast and saturation, each by a factor of 0.5 to 1.5.
  double color = 0;
  // Shrunk to 20 to 100 % of its sides and enlarged again, as from a camera far away.
  double low_resolution = 0;

  double blur = 0;  // Gaussian, of 0.3 to 2 pixels standard deviation
  // A square of 20 to 50 % of the smaller side, centred anywhere, becomes grey (DeVries and Taylor,
  // "Improved regularization of convolutional neural networks with cutout", 2017).
  double cut_out = 0;
};

// Changes `pixels` [height, width, 3], RGB, in place. The same `key`, the same changes; whether one
// kind is on does not change what another does. Order: crop, colour, low resolution, blur, cut-out,
// flip. Thread-safe.
void Augment(const AugmentOptions& options, std::uint64_t key, int height, int width,
             std::uint8_t* pixels);

// The changes themselves, of `pixels` [height, width, 3], in place.

// Everything outside rows [top, bottom) and columns [left, right) becomes black.
void KeepRectangle(int top, int bottom, int left, int right, int height, int width,
                   std::uint8_t* pixels);
// x * brightness; then away from (1: as is) the mean grey by `contrast`; then away from each
// pixel's own grey by `saturation`. Grey is 0.299 R + 0.587 G + 0.114 B; each result is cut to
// 0..255.
void ChangeColors(double brightness, double contrast, double saturation, int height, int width,
                  std::uint8_t* pixels);
// Shrunk to `small_height` x `small_width`, then enlarged, by Resize.
void LowerResolution(int small_height, int small_width, int height, int width,
                     std::uint8_t* pixels);
// Gaussian of standard deviation `sigma` > 0 pixels, to 3 sigma; the border is repeated.
void Blur(double sigma, int height, int width, std::uint8_t* pixels);
// The square of `side` pixels around (centre_y, centre_x), as far as it lies inside, becomes 127.
void CutOut(int centre_y, int centre_x, int side, int height, int width, std::uint8_t* pixels);

}  // namespace fr
