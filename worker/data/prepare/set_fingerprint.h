#pragma once
// Whether a training set is still the one that an earlier run had read a part of.

#include <string>

#include "worker/data/training_set.h"

namespace fr {

// Text that another set has not: its path, how many images and identities it has, where each image
// lies (in a folder, its name), and size and time of train.rec, train.idx, property and shards.
// Does not read the images.
std::string FingerprintOf(const TrainingSet& set);

}  // namespace fr
