#pragma once
// Which triplets of a batch are trained on: one anchor at a time. Pure, without tensors.
//
// A triplet is an anchor a, a positive p (another image of a's identity) and a negative n (of
// another identity); with unit embeddings it costs max(0, |a - p|^2 - |a - n|^2 + margin).

#include <cstdint>
#include <span>

namespace fr {

enum class TripletMining : std::uint8_t {
  // Schroff, Kalenichenko, Philbin 2015 (FaceNet, arXiv:1503.03832, section 3.2): for every anchor
  // and each of its positives one negative with |a - p|^2 < |a - n|^2 < |a - p|^2 + margin: farther
  // than the positive, yet within the margin. Drawn at random of all such; where there is none, the
  // pair has no triplet. (Negatives nearer than the positive are left out: early in training they
  // pull everything into one point.)
  kSemiHard,
  // Hermans, Beyer, Leibe 2017 (arXiv:1703.07737, batch hard): for every anchor its farthest
  // positive and its nearest negative, also where they cost nothing.
  kHard,
  // The same paper's batch all, of which only those that cost something count ("BA != 0").
  kAll,
};

struct TripletRule {
  TripletMining mining = TripletMining::kSemiHard;
  double margin = 0.2;    // squared distance, of at most 4
  std::uint64_t key = 0;  // of kSemiHard's draws: another one for each step
};

// An anchor beside the whole batch. The draws depend on places in the batch alone, so that any
// number of ranks draws the same triplets.
struct AnchorView {
  std::int64_t place = 0;                // in the batch
  std::span<const float> distances;      // [B] squared, to each image of the batch
  std::span<const std::int64_t> labels;  // [B]
};

// Sums over anchors; doubles, for they are added over ranks (counts stay exact to 2^53).
struct TripletSums {
  double loss = 0;
  double chosen = 0;       // triplets that the mean is over
  double active = 0;       // of these, that cost something
  double candidates = 0;   // what could be chosen: kSemiHard: anchors with a positive; kHard:
                           // anchors with a positive and a negative; kAll: triplets
  double anchors = 0;      // that have a positive in the batch
  double nearest_own = 0;  // of these: the nearest other image is one (rank-1)

  TripletSums& operator+=(const TripletSums& other);
};

// The anchor's triplets. `coefficients` [B], zeros before: half the derivative of the summed cost
// by each image's cosine with the anchor, with unit embeddings; a count of triplets, exact.
TripletSums MineAnchor(const TripletRule& rule, const AnchorView& anchor,
                       std::span<float> coefficients);

}  // namespace fr
