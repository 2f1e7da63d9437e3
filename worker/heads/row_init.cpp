#include "worker/heads/row_init.h"

#include <cmath>
#include <numbers>

namespace fr {
namespace {

// One step of splitmix64 (Steele, Lea, Flood 2014): a bijection that mixes all bits.
std::uint64_t Mix(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15U;
  x = (x ^ (x >> 30U)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27U)) * 0x94D049BB133111EBU;
  return x ^ (x >> 31U);
}

// (0, 1]: never 0, for the logarithm.
double Uniform(std::uint64_t bits) { return static_cast<double>((bits >> 11U) + 1) * 0x1p-53; }

}  // namespace

void InitialRow(std::uint64_t seed, std::int64_t identity, double sigma, std::int64_t first_column,
                float* row, std::int64_t size) {
  const std::uint64_t key = Mix(Mix(seed) ^ static_cast<std::uint64_t>(identity)) +
                            static_cast<std::uint64_t>(first_column);
  for (std::int64_t column = 0; column < size; column += 2) {
    // Box-Muller gives numbers in pairs.
    const double radius =
        sigma * std::sqrt(-2 * std::log(Uniform(Mix(key + static_cast<std::uint64_t>(column)))));
    const double angle =
        2 * std::numbers::pi * Uniform(Mix(key + static_cast<std::uint64_t>(column) + 1));
    row[column] = static_cast<float>(radius * std::cos(angle));
    if (column + 1 < size) row[column + 1] = static_cast<float>(radius * std::sin(angle));
  }
}

}  // namespace fr
