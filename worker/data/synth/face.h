#pragma once
// A drawn face: who it shows, and how.

#include <cstdint>

#include "common/base/random.h"
#include "worker/data/images/image.h"

namespace fr {

// Side of the picture, in pixels; eyes, nose and mouth lie where InsightFace's alignment puts them.
inline constexpr int kFaceSide = 112;

struct Colour {
  float r = 0;  // 0..1
  float g = 0;
  float b = 0;
};

// What makes an identity: the same in all of its images. Lengths are pixels of the aligned picture,
// angles radians.
struct FaceIdentity {
  double face_width, face_height, jaw;  // half axes; jaw: how much the lower half narrows
  double eye_distance, eye_y, eye_width, eye_height, eye_slant;
  double brow_lift, brow_thickness, brow_slant, brow_length;
  double nose_length, nose_width;
  double mouth_y, mouth_width, upper_lip, lower_lip;
  bool bald;
  double hairline, hair_sides, hair_parting;
  double ear_size, beard, fringe;
  double mole_x, mole_y, mole_size;  // size 0: none
  Colour skin, hair, iris, lips;
};

FaceIdentity DrawIdentity(Random& random);

// One image of `identity`; everything else (pose, light, expression, occlusion, background, blur,
// noise) is drawn from `random`.
Image DrawFace(const FaceIdentity& identity, Random& random);

}  // namespace fr
