#pragma once
// Runs a verification set through a network, alone or split over the ranks.

#include <functional>
#include <string>

#include <torch/torch.h>

#include "proto/metrics.pb.h"
#include "worker/data/loader.h"
#include "worker/data/verification/verification_set.h"

namespace fr {

class Communicator;

// Decoded images -> embeddings [n, d] float32, not normalised.
using EmbedFunction = std::function<at::Tensor(const Batch& images)>;

// Embeddings of `images` and of their mirror images, added; images of `images`' own size.
at::Tensor EmbedBothWays(const EmbedFunction& embed, Batch images);

// Embeddings of images [begin, end) of `set`, each added to that of its mirror image, not
// normalised: [end - begin, d]. `batch` images at a time. A broken image throws Error(kDataLoss)
// with set and image number.
at::Tensor EmbedWithMirror(const EmbedFunction& embed, const VerificationSet& set,
                           std::int64_t begin, std::int64_t end, int batch);

// Normalises `embeddings`, EmbedWithMirror's of all images of `set`, and evaluates the pairs
// (EvaluatePairs).
ValidationResult EvaluateEmbeddings(const at::Tensor& embeddings, const VerificationSet& set,
                                    const std::string& set_name, std::int64_t step);

// Both, with the images split over the ranks in contiguous parts; every rank returns the same
// result. Collective.
ValidationResult Verify(const EmbedFunction& embed, const VerificationSet& set,
                        const std::string& set_name, std::int64_t step, int batch,
                        Communicator& comm);

}  // namespace fr
