#pragma once
// Precompiled: what every source of fr_engine includes and what costs 20 s to parse.

#include <torch/torch.h>  // IWYU pragma: export
