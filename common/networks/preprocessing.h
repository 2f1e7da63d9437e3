#pragma once
// What happens to pixels before a network sees them.

namespace fr {

// Pixels: height and width of the aligned faces that the networks take.
inline constexpr int kImageSide = 112;

// (pixel - mean) / std, pixels 0..255 RGB. The default is that of arcface_torch, and of everything
// trained here; MXNet's models divide by 128.
struct Preprocessing {
  double mean = 127.5;
  double std = 127.5;
  bool operator==(const Preprocessing&) const = default;
};

}  // namespace fr
