#include "worker/align/area_mean.h"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fr {
namespace {

struct Window {
  std::size_t begin = 0;
  std::size_t end = 0;
};

std::vector<Window> WindowsOf(int old_size, int new_size) {
  const auto from = static_cast<std::size_t>(old_size);
  const auto to = static_cast<std::size_t>(new_size);
  std::vector<Window> windows;
  windows.reserve(to);
  for (std::size_t i = 0; i < to; ++i) {
    windows.push_back({i * from / to, ((i + 1) * from + to - 1) / to});
  }
  return windows;
}

}  // namespace

void AreaMean(const Image& image, const PixelRectangle& part, int height, int width, float* out) {
  const std::vector<Window> rows = WindowsOf(part.bottom - part.top, height);
  const std::vector<Window> columns = WindowsOf(part.right - part.left, width);
  const auto old_width = static_cast<std::size_t>(part.right - part.left);
  const std::size_t stride = static_cast<std::size_t>(image.width) * 3;
  const std::uint8_t* first = image.pixels.data() + static_cast<std::size_t>(part.top) * stride +
                              static_cast<std::size_t>(part.left) * 3;
  const std::size_t plane = static_cast<std::size_t>(height) * static_cast<std::size_t>(width);
  std::vector<std::uint32_t> sums(old_width * 3);  // of a column's pixels in the window's rows
  for (std::size_t y = 0; y < rows.size(); ++y) {
    const std::uint8_t* row = first + rows[y].begin * stride;
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] = row[i];
    for (std::size_t k = rows[y].begin + 1; k < rows[y].end; ++k) {
      row += stride;
      for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += row[i];
    }
    const std::size_t window_rows = rows[y].end - rows[y].begin;
    float* to = out + y * static_cast<std::size_t>(width);
    for (std::size_t x = 0; x < columns.size(); ++x) {
      const auto [begin, end] = columns[x];
      std::uint64_t sum[3] = {};
      for (std::size_t k = begin; k < end; ++k) {
        for (std::size_t c = 0; c < 3; ++c) sum[c] += sums[k * 3 + c];
      }
      const auto count = static_cast<float>(window_rows * (end - begin));
      for (std::size_t c = 0; c < 3; ++c) {
        to[c * plane + x] = (static_cast<float>(sum[c]) / count - 127.5F) * 0.0078125F;
      }
    }
  }
}

}  // namespace fr
