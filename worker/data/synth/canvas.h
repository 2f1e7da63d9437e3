#pragma once
// Soft-edged shapes on a float picture.

#include <algorithm>
#include <cmath>
#include <vector>

#include "worker/data/synth/face.h"

namespace fr {

// From a pixel to the point of the face (or scene) that it shows: rotated, scaled, moved.
struct View {
  double cos = 1;
  double sin = 0;
  double scale = 1;  // pixels per unit
  double x = 0;      // where the scene's origin lies, in pixels
  double y = 0;
};

// An ellipse in the scene, turned by `angle`; below its centre it narrows by `taper` (0: not at
// all).
struct Ellipse {
  double x = 0;
  double y = 0;
  double half_width = 1;
  double half_height = 1;
  double angle = 0;
  double taper = 0;
};

class Canvas {
 public:
  explicit Canvas(int side) : side_(side), pixels_(static_cast<std::size_t>(side) * side) {}

  int side() const { return side_; }
  Colour& at(int x, int y) { return pixels_[static_cast<std::size_t>(y) * side_ + x]; }
  std::vector<Colour>& pixels() { return pixels_; }

  // Mixes `colour` in with `opacity`, fading out over `softness` pixels around the edge.
  void Fill(const View& view, const Ellipse& shape, Colour colour, double opacity = 1,
            double softness = 1) {
    const double reach = std::max(shape.half_width, shape.half_height) * view.scale + softness + 1;
    const double centre_x = view.x + view.scale * (view.cos * shape.x - view.sin * shape.y);
    const double centre_y = view.y + view.scale * (view.sin * shape.x + view.cos * shape.y);
    const auto clip = [this](double v) { return std::clamp(static_cast<int>(v), 0, side_); };
    const double cos = std::cos(shape.angle);
    const double sin = std::sin(shape.angle);
    for (int py = clip(centre_y - reach); py < clip(centre_y + reach + 1); ++py) {
      for (int px = clip(centre_x - reach); px < clip(centre_x + reach + 1); ++px) {
        const double dx = (px + 0.5 - view.x) / view.scale;
        const double dy = (py + 0.5 - view.y) / view.scale;
        const double u = view.cos * dx + view.sin * dy - shape.x;
        const double v = -view.sin * dx + view.cos * dy - shape.y;
        const double distance = Distance(shape, cos * u + sin * v, -sin * u + cos * v) * view.scale;
        const double cover = std::clamp(0.5 - distance / softness, 0.0, 1.0) * opacity;
        if (cover > 0) Mix(at(px, py), colour, static_cast<float>(cover));
      }
    }
  }

  static void Mix(Colour& into, Colour colour, float share) {
    into.r += share * (colour.r - into.r);
    into.g += share * (colour.g - into.g);
    into.b += share * (colour.b - into.b);
  }

 private:
  // From the ellipse's edge, negative inside; exact enough near the edge.
  static double Distance(const Ellipse& shape, double u, double v) {
    const double below = std::max(0.0, v / shape.half_height);
    const double half_width = shape.half_width * std::max(0.1, 1 - shape.taper * below * below);
    const double radius = std::hypot(u / half_width, v / shape.half_height);
    return (radius - 1) * std::min(half_width, shape.half_height);
  }

  int side_;
  std::vector<Colour> pixels_;
};

}  // namespace fr
