#include "worker/dedupe/match.h"

#include <algorithm>
#include <numeric>

namespace fr {
namespace {

bool MoreSimilar(const Match& a, const Match& b) {
  return a.cosine != b.cosine ? a.cosine > b.cosine : a.right < b.right;
}

}  // namespace

BestMatches::BestMatches(std::int64_t num_identities, std::size_t top)
    : top_(top), by_left_(static_cast<std::size_t>(num_identities)) {}

void BestMatches::Add(const Match& match) {
  ++num_added_;
  std::vector<Match>& own = by_left_[static_cast<std::size_t>(match.left)];
  own.insert(std::upper_bound(own.begin(), own.end(), match, MoreSimilar), match);
  if (own.size() > top_) own.pop_back();
}

std::vector<Match> BestMatches::Sorted() const {
  std::vector<Match> all;
  for (const auto& own : by_left_) all.insert(all.end(), own.begin(), own.end());
  return all;
}

SameIdentities::SameIdentities(std::int64_t num_identities)
    : parent_(static_cast<std::size_t>(num_identities)) {
  std::iota(parent_.begin(), parent_.end(), std::int64_t{0});
}

// Parents are lower than their children: the root is the first of its group.
void SameIdentities::Join(std::int64_t a, std::int64_t b) {
  const auto [first, second] = std::minmax({FirstOf(a), FirstOf(b)});
  parent_[static_cast<std::size_t>(second)] = first;
}

std::int64_t SameIdentities::FirstOf(std::int64_t identity) {
  while (true) {
    std::int64_t& parent = parent_[static_cast<std::size_t>(identity)];
    if (parent == identity) return identity;
    parent = parent_[static_cast<std::size_t>(parent)];
    identity = parent;
  }
}

std::vector<std::int64_t> LabelsWithout(const std::vector<bool>& removed) {
  std::vector<std::int64_t> labels;
  labels.reserve(removed.size());
  std::int64_t next = 0;
  for (const bool gone : removed) labels.push_back(gone ? -1 : next++);
  return labels;
}

std::vector<std::int64_t> LabelsOfDistinct(SameIdentities* same,
                                           const std::vector<std::int64_t>& images_of_identity,
                                           DuplicatePolicy policy) {
  // Of each group, by its first: who stays.
  std::vector<std::int64_t> chosen(images_of_identity.size(), -1);
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    std::int64_t& best =
        chosen[static_cast<std::size_t>(same->FirstOf(static_cast<std::int64_t>(i)))];
    const bool larger =
        best < 0 || (policy == DuplicatePolicy::kRemove &&
                     images_of_identity[i] > images_of_identity[static_cast<std::size_t>(best)]);
    if (larger) best = static_cast<std::int64_t>(i);
  }
  std::vector<bool> removed(chosen.size());
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    const std::int64_t first = same->FirstOf(static_cast<std::int64_t>(i));
    removed[i] = chosen[static_cast<std::size_t>(first)] != static_cast<std::int64_t>(i);
  }
  std::vector<std::int64_t> labels = LabelsWithout(removed);
  if (policy == DuplicatePolicy::kRemove) return labels;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    labels[i] = labels[static_cast<std::size_t>(same->FirstOf(static_cast<std::int64_t>(i)))];
  }
  return labels;
}

}  // namespace fr
