#pragma once
// Vision transformers (Dosovitskiy et al., arXiv:2010.11929), as arcface_torch's vit.py.

#include <cstdint>

#include "common/networks/network.h"

namespace fr {

struct VitSpec {
  std::int64_t width = 512;   // values of a token
  int depth = 12;             // blocks
  double drop_path = 0.1;     // of the last block; rises from 0 in equal steps
  double hidden_share = 0.1;  // of the tokens, left out of a training step
};

// 12 x 12 tokens of 9 x 9 pixels (the image's last 4 rows and columns are not seen), 8 heads, no
// class token: all tokens together make the embedding. Throws Error(kInvalidArgument) if the
// options name an output or a dropout: it has its own head.
Graph MakeVit(const VitSpec& spec, const NetworkOptions& options);

}  // namespace fr
