#include "worker/data/synth/face.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "worker/data/synth/canvas.h"

namespace fr {
namespace {

constexpr double kCentreX = 55.9;  // of the aligned eyes, nose and mouth
constexpr double kEyesY = 51.6;
constexpr double kNoseY = 71.7;

// What makes an image: drawn anew each time.
struct Shot {
  View view;
  double yaw, pitch;  // radians; how far near features move over far ones
  double smile, open, lids, brows;
  Colour light;             // factor of each channel
  double shade_x, shade_y;  // change of brightness over the picture
  double blur;              // standard deviation in pixels
  double noise;
};

Colour Scaled(Colour colour, double factor) {
  const auto f = static_cast<float>(factor);
  return {colour.r * f, colour.g * f, colour.b * f};
}

Colour RandomColour(Random& random, double low, double high) {
  return {static_cast<float>(random.Uniform(low, high)),
          static_cast<float>(random.Uniform(low, high)),
          static_cast<float>(random.Uniform(low, high))};
}

Colour Between(Colour a, Colour b, double share) {
  Canvas::Mix(a, b, static_cast<float>(share));
  return a;
}

Shot DrawShot(Random& random) {
  Shot shot = {};
  const double roll = random.Normal() * 0.06;
  shot.view = {std::cos(roll), std::sin(roll), random.Uniform(0.93, 1.07),
               kCentreX + random.Normal() * 1.6, kNoseY + random.Normal() * 1.6};
  shot.yaw = std::clamp(random.Normal() * 0.25, -0.6, 0.6);
  shot.pitch = std::clamp(random.Normal() * 0.18, -0.4, 0.4);
  shot.smile = random.Uniform(-0.5, 1);
  shot.open = random.Chance(0.35) ? random.Uniform(0.2, 1) : 0;
  shot.lids = random.Chance(0.12) ? random.Uniform(0.05, 0.5) : random.Uniform(0.8, 1.1);
  shot.brows = random.Normal() * 1.2;
  const double brightness = std::exp(random.Normal() * 0.25);
  const Colour tint = RandomColour(random, 0.85, 1.15);
  shot.light = Scaled(tint, std::clamp(brightness, 0.5, 1.6));
  shot.shade_x = random.Normal() * 0.3;
  shot.shade_y = random.Normal() * 0.2;
  shot.blur = random.Chance(0.4) ? random.Uniform(0.4, 1.6) : 0;
  shot.noise = random.Uniform(0, 0.05);
  return shot;
}

// Draws one face in its own coordinates: the origin between nose and eyes, y downwards, z towards
// the camera.
class Painter {
 public:
  Painter(Canvas& canvas, const FaceIdentity& who, const Shot& how)
      : canvas_(canvas), who_(who), how_(how) {}

  void PaintFace() {
    PaintHair();
    PaintEars();
    const Colour skin = who_.skin;
    Fill(Head(), skin, 1, 1.5);
    PaintShadows();
    if (who_.beard > 0) PaintBeard();
    PaintFringe();
    for (const double side : {-1.0, 1.0}) {
      PaintEye(side);
      PaintBrow(side);
    }
    PaintNose();
    PaintMouth();
    if (who_.mole_size > 0) {
      Fill(Turned(who_.mole_x, who_.mole_y, 8, who_.mole_size, who_.mole_size), Scaled(skin, 0.35));
    }
  }

  // Sunglasses, a mask, a hand or a bar: something that hides a part.
  void PaintOcclusion(Random& random) {
    const Colour colour = RandomColour(random, 0, 0.9);
    const double kind = random.Uniform();
    if (kind < 0.4) {
      for (const double side : {-1.0, 1.0}) {
        Fill(Turned(side * who_.eye_distance, EyeY(), 12, random.Uniform(8, 11),
                    random.Uniform(5, 8)),
             Scaled(colour, 0.3));
      }
      Fill(Turned(0, EyeY() - 2, 12, who_.eye_distance, 1), Scaled(colour, 0.3));
    } else if (kind < 0.65) {
      Fill(Turned(0, who_.mouth_y + 2, 10, random.Uniform(20, 28), random.Uniform(10, 16)), colour);
    } else {
      const double x = random.Uniform(-40, 40);
      const double y = random.Uniform(-30, 50);
      Ellipse shape{x, y, random.Uniform(8, 16), random.Uniform(14, 30), random.Uniform(0, 3.1), 0};
      Fill(shape, colour);
    }
  }

 private:
  void Fill(const Ellipse& shape, Colour colour, double opacity = 1, double softness = 1) {
    canvas_.Fill(how_.view, shape, colour, opacity, softness);
  }

  // An ellipse at (x, y, z) of a head that is turned by yaw and pitch.
  Ellipse Turned(double x, double y, double z, double half_width, double half_height,
                 double angle = 0) const {
    // A point off the middle lies further back: the head is round.
    const double depth = z - x * x / 90;
    const double turned_x = x * std::cos(how_.yaw) + (depth + 22) * std::sin(how_.yaw) * 0.6;
    const double turned_y = y * std::cos(how_.pitch) + (depth + 22) * std::sin(how_.pitch) * 0.5;
    const double side = std::cos(how_.yaw - std::clamp(x / 70, -1.0, 1.0));
    return {turned_x, turned_y, half_width * std::max(0.35, side), half_height, angle, 0};
  }

  double EyeY() const { return kEyesY - kNoseY + who_.eye_y; }

  Ellipse Head() const {
    Ellipse head = Turned(0, -2, -18, who_.face_width, who_.face_height);
    head.taper = who_.jaw;
    return head;
  }

  void PaintHair() {
    Ellipse back = Head();
    back.half_width += 4 + who_.hair_sides;
    back.half_height += 5;
    back.y -= 4 - who_.hair_sides;
    back.taper = 0.15;
    if (!who_.bald) Fill(back, who_.hair, 1, 2);
  }

  void PaintEars() {
    for (const double side : {-1.0, 1.0}) {
      const Ellipse ear =
          Turned(side * who_.face_width, EyeY() + 7, -26, who_.ear_size, who_.ear_size * 1.8);
      if (side * how_.yaw < 0.45) Fill(ear, Scaled(who_.skin, 0.85));
    }
  }

  void PaintShadows() {
    const Colour shadow = Scaled(who_.skin, 0.72);
    for (const double side : {-1.0, 1.0}) {
      Fill(Turned(side * who_.face_width * 0.62, 14, 0, 7, 12, side * 0.3), shadow, 0.35, 8);
      Fill(Turned(side * who_.eye_distance, EyeY() + 1, 4, who_.eye_width + 3.5,
                  who_.eye_height + 3.5),
           shadow, 0.4, 4);
    }
  }

  void PaintBeard() {
    Ellipse beard = Turned(0, who_.mouth_y + 4, -4, who_.face_width * 0.72, 16);
    beard.taper = 0.5;
    Fill(beard, Between(who_.skin, who_.hair, 0.8), who_.beard, 5);
  }

  void PaintFringe() {
    const double top = -who_.face_height - 2;
    Ellipse fringe = Turned(who_.hair_parting, (top + who_.hairline) / 2, -14,
                            who_.face_width * 0.97, (who_.hairline - top) / 2);
    fringe.angle = who_.hair_parting * 0.015;
    if (who_.bald) return;
    Fill(fringe, who_.hair, 1, 2);
    if (who_.fringe > 0) {
      Fill(Turned(who_.hair_parting * 1.6, who_.hairline + 2, -10, who_.face_width * 0.5,
                  who_.fringe),
           Scaled(who_.hair, 1.1), 0.9, 2);
    }
  }

  void PaintEye(double side) {
    const double x = side * who_.eye_distance;
    const double slant = side * who_.eye_slant;
    const double height = who_.eye_height * how_.lids;
    Fill(Turned(x, EyeY(), 6, who_.eye_width + 0.8, height + 1.2, slant), Scaled(who_.skin, 0.35));
    if (height < 1) return;  // closed
    Fill(Turned(x, EyeY(), 6, who_.eye_width, height, slant), {0.93F, 0.92F, 0.9F});
    const double radius = std::min(height * 1.05, who_.eye_width * 0.5);
    const double look = how_.yaw * 2;
    Fill(Turned(x + look, EyeY(), 6, radius, radius), who_.iris);
    Fill(Turned(x + look, EyeY(), 6, radius * 0.45, radius * 0.45), {0.05F, 0.05F, 0.05F});
  }

  void PaintBrow(double side) {
    const double y = EyeY() - who_.brow_lift - how_.brows;
    Fill(Turned(side * (who_.eye_distance + 0.5), y, 7, who_.brow_length, who_.brow_thickness,
                side * who_.brow_slant),
         Scaled(who_.hair, 0.75), 0.9, 1.4);
  }

  void PaintNose() {
    const double tip = EyeY() + who_.nose_length;
    const Colour shadow = Scaled(who_.skin, 0.7);
    const double lit = how_.shade_x > 0 ? -1 : 1;
    Fill(Turned(lit * who_.nose_width * 0.55, tip - who_.nose_length * 0.4, 12, 1.6,
                who_.nose_length * 0.45, -lit * 0.1),
         shadow, 0.6, 2.5);
    Fill(Turned(0, tip + 0.5, 16, who_.nose_width, 3), shadow, 0.55, 2.5);
    Fill(Turned(0, tip - 1, 18, who_.nose_width * 0.6, 2.5), Scaled(who_.skin, 1.12), 0.7, 3);
    for (const double side : {-1.0, 1.0}) {
      Fill(Turned(side * who_.nose_width * 0.5, tip + 1.6, 14, 1.5, 0.9), Scaled(who_.skin, 0.3));
    }
  }

  void PaintMouth() {
    const double width = who_.mouth_width * (1 + 0.12 * how_.smile);
    const double open = how_.open * 5;
    const double corner_lift = how_.smile * 2.5;
    const double y = who_.mouth_y;
    if (open > 0.5) {
      Fill(Turned(0, y + open * 0.5, 9, width * 0.9, open + 1), {0.25F, 0.08F, 0.08F});
      Fill(Turned(0, y - 0.5, 9, width * 0.7, 1.3), {0.9F, 0.9F, 0.86F}, 0.9);
    }
    for (const double side : {-1.0, 1.0}) {
      const double tilt = -side * corner_lift / std::max(width, 1.0);
      Fill(Turned(side * width * 0.5, y - who_.upper_lip * 0.6 - corner_lift * 0.3, 10,
                  width * 0.55, who_.upper_lip, tilt + side * 0.12),
           who_.lips);
      Fill(Turned(side * width * 0.4, y + open + who_.lower_lip * 0.6 - corner_lift * 0.2, 10,
                  width * 0.5, who_.lower_lip, tilt - side * 0.1),
           Scaled(who_.lips, 1.08));
    }
    if (open <= 0.5) {
      Fill(Turned(0, y - corner_lift * 0.2, 10, width * 0.95, 0.7), Scaled(who_.lips, 0.45));
    }
  }

  Canvas& canvas_;
  const FaceIdentity& who_;
  const Shot& how_;
};

void PaintBackground(Canvas& canvas, Random& random) {
  const Colour from = RandomColour(random, 0, 1);
  const Colour to = RandomColour(random, 0, 1);
  const double angle = random.Uniform(0, 6.28);
  for (int y = 0; y < canvas.side(); ++y) {
    for (int x = 0; x < canvas.side(); ++x) {
      const double along = (x - 56) * std::cos(angle) + (y - 56) * std::sin(angle);
      canvas.at(x, y) = Between(from, to, std::clamp(0.5 + along / 140, 0.0, 1.0));
    }
  }
  for (std::int64_t i = random.Below(6); i > 0; --i) {
    const Ellipse blob{random.Uniform(0, 112), random.Uniform(0, 112), random.Uniform(5, 40),
                       random.Uniform(5, 40),  random.Uniform(0, 3.1), 0};
    canvas.Fill(View{}, blob, RandomColour(random, 0, 1), random.Uniform(0.3, 1), 4);
  }
}

// A Gaussian, along rows and columns.
void Blur(Canvas& canvas, double sigma) {
  const int radius = static_cast<int>(std::ceil(2.5 * sigma));
  std::vector<float> weights;
  float sum = 0;
  for (int i = -radius; i <= radius; ++i) {
    weights.push_back(static_cast<float>(std::exp(-i * i / (2 * sigma * sigma))));
    sum += weights.back();
  }
  const int last = canvas.side() - 1;
  for (const bool along_rows : {true, false}) {
    Canvas source = canvas;
    for (int y = 0; y <= last; ++y) {
      for (int x = 0; x <= last; ++x) {
        Colour mean;
        for (int i = -radius; i <= radius; ++i) {
          const Colour& from = along_rows ? source.at(std::clamp(x + i, 0, last), y)
                                          : source.at(x, std::clamp(y + i, 0, last));
          const float weight = weights[static_cast<std::size_t>(i + radius)] / sum;
          mean.r += weight * from.r;
          mean.g += weight * from.g;
          mean.b += weight * from.b;
        }
        canvas.at(x, y) = mean;
      }
    }
  }
}

void Light(Canvas& canvas, const Shot& shot) {
  for (int y = 0; y < canvas.side(); ++y) {
    for (int x = 0; x < canvas.side(); ++x) {
      const double shade =
          std::clamp(1 + shot.shade_x * (x - 56) / 56 + shot.shade_y * (y - 56) / 56, 0.25, 1.9);
      Colour& pixel = canvas.at(x, y);
      const Colour factor = Scaled(shot.light, shade);
      pixel = {pixel.r * factor.r, pixel.g * factor.g, pixel.b * factor.b};
    }
  }
}

Image ToImage(Canvas& canvas, double noise, Random& random) {
  Image image{canvas.side(), canvas.side(), {}};
  image.pixels.reserve(canvas.pixels().size() * 3);
  for (const Colour& pixel : canvas.pixels()) {
    const double grain = random.Normal() * noise;
    for (const float value : {pixel.r, pixel.g, pixel.b}) {
      image.pixels.push_back(
          static_cast<std::uint8_t>(std::clamp((value + grain) * 255 + 0.5, 0.0, 255.0)));
    }
  }
  return image;
}

Colour DrawSkin(Random& random) {
  const double depth = random.Uniform(0.62, 1.05);
  const double warmth = random.Uniform(-0.04, 0.04);
  return {static_cast<float>(0.88 * depth + warmth), static_cast<float>(0.70 * depth),
          static_cast<float>(0.58 * depth - warmth)};
}

Colour DrawHair(Random& random) {
  static constexpr std::array<Colour, 6> kHair = {{{0.08F, 0.07F, 0.07F},
                                                   {0.22F, 0.14F, 0.09F},
                                                   {0.38F, 0.25F, 0.15F},
                                                   {0.62F, 0.46F, 0.26F},
                                                   {0.45F, 0.20F, 0.10F},
                                                   {0.55F, 0.54F, 0.53F}}};
  return Scaled(kHair[static_cast<std::size_t>(random.Below(kHair.size()))],
                random.Uniform(0.8, 1.2));
}

}  // namespace

FaceIdentity DrawIdentity(Random& random) {
  FaceIdentity who = {};
  const auto uniform = [&random](double low, double high) { return random.Uniform(low, high); };
  who.face_width = uniform(29, 43);
  who.face_height = uniform(44, 54);
  who.jaw = uniform(0.05, 0.5);
  who.eye_distance = uniform(13.5, 21.5);
  who.eye_y = uniform(-3, 3);
  who.eye_width = uniform(4.2, 8);
  who.eye_height = uniform(1.9, 4.4);
  who.eye_slant = uniform(-0.32, 0.32);
  who.brow_lift = uniform(6, 12.5);
  who.brow_thickness = uniform(0.7, 2.8);
  who.brow_slant = uniform(-0.4, 0.4);
  who.brow_length = uniform(5.5, 10.5);
  who.nose_length = uniform(13, 26);
  who.nose_width = uniform(3.5, 9);
  who.mouth_y = uniform(15.5, 27);
  who.mouth_width = uniform(7, 18);
  who.upper_lip = uniform(0.8, 3);
  who.lower_lip = uniform(1, 3.8);
  who.bald = random.Chance(0.08);
  who.hairline = uniform(-44, -28);
  who.hair_sides = uniform(-3, 7);
  who.hair_parting = uniform(-10, 10);
  who.ear_size = uniform(3, 6);
  who.beard = random.Chance(0.25) ? uniform(0.3, 0.9) : 0;
  who.fringe = random.Chance(0.3) ? uniform(3, 8) : 0;
  who.mole_size = random.Chance(0.25) ? uniform(1.2, 2.2) : 0;
  who.mole_x = uniform(-22, 22);
  who.mole_y = uniform(2, 30);
  who.skin = DrawSkin(random);
  who.hair = DrawHair(random);
  who.iris = RandomColour(random, 0.1, 0.6);
  who.lips = Between(Scaled(who.skin, 0.75), {0.7F, 0.2F, 0.25F}, uniform(0.1, 0.7));
  return who;
}

Image DrawFace(const FaceIdentity& identity, Random& random) {
  const Shot shot = DrawShot(random);
  Canvas canvas(kFaceSide);
  PaintBackground(canvas, random);
  Painter painter(canvas, identity, shot);
  painter.PaintFace();
  if (random.Chance(0.06)) painter.PaintOcclusion(random);
  Light(canvas, shot);
  if (shot.blur > 0) Blur(canvas, shot.blur);
  return ToImage(canvas, shot.noise, random);
}

}  // namespace fr
