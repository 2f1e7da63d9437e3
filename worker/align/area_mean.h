#pragma once
// Pictures made smaller for the networks of MTCNN.

#include "worker/data/images/image.h"

namespace fr {

// Pixels [left, right) x [top, bottom) of an image.
struct PixelRectangle {
  int left = 0;
  int top = 0;
  int right = 0;
  int bottom = 0;
};

// Part of `image` as `height` x `width` pixels, each the mean of the old ones that it touches: rows
// floor(y H / height) to ceil((y + 1) H / height), columns alike (PyTorch's "area" interpolation).
// Written as (mean - 127.5) / 128 to `out`, [3, height, width]. REQUIRES: a part of at least one
// pixel, inside the image.
void AreaMean(const Image& image, const PixelRectangle& part, int height, int width, float* out);

}  // namespace fr
