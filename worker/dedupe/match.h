#pragma once
// Two identities that a model takes for one person, and what becomes of a set with such.

#include <cstdint>
#include <vector>

namespace fr {

struct Match {
  std::int64_t left = 0;   // identity of the set that is cleaned
  std::int64_t right = 0;  // identity of the other set, or of the same
  float cosine = 0;
};

// Keeps the `top` most similar matches of every identity on the left: memory has a bound, whatever
// the threshold lets through.
class BestMatches {
 public:
  BestMatches(std::int64_t num_identities, std::size_t top);

  void Add(const Match& match);

  std::int64_t num_added() const { return num_added_; }
  // By identity, the most similar first.
  std::vector<Match> Sorted() const;

 private:
  std::size_t top_;
  std::int64_t num_added_ = 0;
  std::vector<std::vector<Match>> by_left_;
};

// Which identities are one: those that matches connect, directly or over others.
class SameIdentities {
 public:
  explicit SameIdentities(std::int64_t num_identities);

  void Join(std::int64_t a, std::int64_t b);
  // The lowest of those that are one with `identity`.
  std::int64_t FirstOf(std::int64_t identity);

 private:
  std::vector<std::int64_t> parent_;  // an identity of the same group, or itself
};

// Of the identities that are one: what stays of them.
enum class DuplicatePolicy {
  kRemove,  // the one with the most images, of several such the first
  kMerge,   // all images, under one label
};

// For every old identity its label in the cleaned set, or -1: dense, in the old order (of a merged
// group's first).
std::vector<std::int64_t> LabelsWithout(const std::vector<bool>& removed);
std::vector<std::int64_t> LabelsOfDistinct(SameIdentities* same,
                                           const std::vector<std::int64_t>& images_of_identity,
                                           DuplicatePolicy policy);

}  // namespace fr
