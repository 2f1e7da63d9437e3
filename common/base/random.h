#pragma once
// Random numbers that are the same on every machine and with every compiler (the distributions of
// the standard library are not).

#include <cmath>
#include <cstdint>

namespace fr {

// The finaliser of SplitMix64 (Steele, Lea and Flood 2014): a bijection that scrambles all bits.
constexpr std::uint64_t Mix64(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

// One number out of several: streams of different keys are independent for our purposes.
constexpr std::uint64_t MixKeys(std::uint64_t a, std::uint64_t b, std::uint64_t c = 0) {
  return Mix64(Mix64(Mix64(a + 0x9e3779b97f4a7c15ULL) ^ b) + 0x9e3779b97f4a7c15ULL * (c + 1));
}

// SplitMix64.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t Bits() { return Mix64(state_ += 0x9e3779b97f4a7c15ULL); }
  double Uniform() { return static_cast<double>(Bits() >> 11) * 0x1p-53; }  // [0, 1)
  double Uniform(double low, double high) { return low + (high - low) * Uniform(); }
  bool Chance(double probability) { return Uniform() < probability; }
  // [0, count), count > 0.
  std::int64_t Below(std::int64_t count) {
    return static_cast<std::int64_t>(Uniform() * static_cast<double>(count));
  }
  // Mean 0, standard deviation 1 (Box and Muller).
  double Normal() {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - Uniform()));
    return radius * std::cos(6.283185307179586 * Uniform());
  }

 private:
  std::uint64_t state_;
};

}  // namespace fr
