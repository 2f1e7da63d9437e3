#pragma once
// What is known to fit and what is known not to: spares the search for the thousands of jobs that
// want no less than one that has been looked at.

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace fr::scheduling {

// Room for `workers` with `memory` each, among jobs that are otherwise alike. Holds as long as room
// only becomes less (failures) or stays as it is (both).
class Frontier {
 public:
  void Fits(std::int64_t workers, std::int64_t memory) { Add(-workers, -memory, &fits_); }
  void Fails(std::int64_t workers, std::int64_t memory) { Add(workers, memory, &fails_); }

  bool KnownToFit(std::int64_t workers, std::int64_t memory) const {
    return Covers(fits_, -workers, -memory);
  }
  bool KnownToFail(std::int64_t workers, std::int64_t memory) const {
    return Covers(fails_, workers, memory);
  }

  // The least of what has failed: all else that failed wants no less.
  const std::vector<std::pair<std::int64_t, std::int64_t>>& failures() const { return fails_; }

 private:
  using Points = std::vector<std::pair<std::int64_t, std::int64_t>>;

  static bool Covers(const Points& points, std::int64_t workers, std::int64_t memory) {
    return std::any_of(points.begin(), points.end(), [&](const auto& point) {
      return point.first <= workers && point.second <= memory;
    });
  }

  static void Add(std::int64_t workers, std::int64_t memory, Points* points) {
    if (Covers(*points, workers, memory)) return;
    std::erase_if(*points, [&](const auto& point) {
      return workers <= point.first && memory <= point.second;
    });
    points->emplace_back(workers, memory);
  }

  Points fits_;
  Points fails_;
};

}  // namespace fr::scheduling
