#include "worker/data/images/image.h"

#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/temporary_directory.h"
#include "tests/python.h"

namespace fr {
namespace {

// Pillow, which brings its own libjpeg and libpng, sees the same pixels.
TEST(DecodeImage, AgreesWithPillow) {
  const TemporaryDirectory directory;
  RunPython(directory.path(), R"(
from PIL import Image
import random
random.seed(1)
small = Image.new("RGB", (12, 9))
small.putdata([tuple(random.randrange(256) for _ in range(3)) for _ in range(12 * 9)])
picture = small.resize((48, 36), Image.BICUBIC)
for name, image in (("a.png", picture), ("b.png", picture.convert("L")), ("c.jpg", picture),
                    ("d.jpg", picture.convert("L")), ("e.pgm", picture.convert("L")),
                    ("f.ppm", picture), ("g.png", picture.convert("P"))):
    image.save(name, **({"quality": 90} if name.endswith("jpg") else {}))
    open(name + ".raw", "wb").write(Image.open(name).convert("RGB").tobytes())
)");
  for (const char* name : {"a.png", "b.png", "c.jpg", "d.jpg", "e.pgm", "f.ppm", "g.png"}) {
    const Image image = DecodeImage(ReadFile(directory.path() / name));
    const std::string raw = ReadFile(directory.path() / (std::string(name) + ".raw"));
    ASSERT_EQ(image.width, 48);
    ASSERT_EQ(image.height, 36);
    ASSERT_EQ(image.pixels.size(), raw.size());
    int largest = 0;
    for (std::size_t i = 0; i < raw.size(); ++i) {
      largest = std::max(largest, std::abs(image.pixels[i] - static_cast<unsigned char>(raw[i])));
    }
    EXPECT_LE(largest, std::string(name).ends_with("jpg") ? 2 : 0) << name;
  }
}

TEST(DecodeImage, WhatIsNoPictureIsAnError) {
  const Image image{16, 16, std::vector<std::uint8_t>(16 * 16 * 3, 77)};
  const std::string jpeg = EncodeJpeg(image, 90);
  for (const std::string& bytes :
       {std::string(), std::string("GIF89a"), jpeg.substr(0, jpeg.size() / 2), jpeg.substr(0, 3),
        std::string("\x89PNG\r\n\x1a\nxxxx"), std::string("P5 4 4 255\n123"),
        std::string("P5 99999 1 255\n"), std::string("P5 4 4 65535\n"), std::string("P5"),
        std::string("P5 #")}) {
    EXPECT_THROW(DecodeImage(bytes), Error) << bytes.substr(0, 8);
  }
}

// A JPEG may end anywhere: the codec, which is used again, must not remember it.
TEST(DecodeImage, ABrokenPictureDoesNotSpoilTheNextOne) {
  const std::string jpeg = EncodeJpeg({16, 16, std::vector<std::uint8_t>(16 * 16 * 3, 77)}, 90);
  for (std::size_t size = 0; size < jpeg.size(); ++size) {
    EXPECT_THROW(DecodeImage(jpeg.substr(0, size)), Error) << size;
    EXPECT_EQ(DecodeImage(jpeg).width, 16) << size;
  }
}

TEST(DecodeImage, AnotherSizeIsAnErrorWhereOneIsAgreed) {
  const std::string jpeg = EncodeJpeg({16, 16, std::vector<std::uint8_t>(16 * 16 * 3, 77)}, 90);
  std::vector<std::uint8_t> pixels(112 * 112 * 3);
  EXPECT_THROW(DecodeImageInto(jpeg, 112, 112, pixels.data()), Error);
}

TEST(FlipHorizontally, ExchangesLeftAndRight) {
  std::vector<std::uint8_t> pixels = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  FlipHorizontally(1, 3, pixels.data());
  EXPECT_EQ(pixels, (std::vector<std::uint8_t>{7, 8, 9, 4, 5, 6, 1, 2, 3}));
}

// Rows of every width, also those that end within a vector, and nothing beside them.
TEST(FlipHorizontally, IsTheSameForEveryWidth) {
  for (int width = 1; width <= 40; ++width) {
    constexpr std::uint8_t kBeside = 255;
    std::vector<std::uint8_t> pixels(static_cast<std::size_t>(width * 3 * 2 + 2), kBeside);
    for (int i = 0; i < width * 3 * 2; ++i) pixels[static_cast<std::size_t>(i + 1)] = i % 251;
    const std::vector<std::uint8_t> before = pixels;
    FlipHorizontally(2, width, pixels.data() + 1);
    for (int y = 0; y < 2; ++y) {
      for (int x = 0; x < width; ++x) {
        for (int c = 0; c < 3; ++c) {
          const auto at = [&](int column) {
            return static_cast<std::size_t>(1 + (y * width + column) * 3 + c);
          };
          ASSERT_EQ(pixels[at(x)], before[at(width - 1 - x)]) << width;
        }
      }
    }
    EXPECT_EQ(pixels.front(), kBeside);
    EXPECT_EQ(pixels.back(), kBeside);
  }
}

// A ramp stays a ramp, and what is cropped is what stands out above and below.
TEST(ResizeToCover, KeepsProportionsAndCropsTheRest) {
  Image image{120, 60, {}};
  for (int y = 0; y < 120; ++y) {
    for (int x = 0; x < 60; ++x)
      image.pixels.insert(image.pixels.end(), 3, static_cast<std::uint8_t>(2 * y));
  }
  const Image resized = ResizeToCover(image, 30, 30);
  ASSERT_EQ(resized.pixels.size(), 30U * 30 * 3);
  for (int y = 0; y < 30; ++y) {
    // Rows 30 to 90 are left, two to one.
    EXPECT_NEAR(resized.pixels[static_cast<std::size_t>(y * 30 * 3)], 2 * (30 + 2 * y + 0.5), 1.01);
  }
}

}  // namespace
}  // namespace fr
