#include "worker/data/synth/synthetic_set.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/file.h"
#include "common/base/temporary_directory.h"
#include "worker/data/images/image.h"
#include "worker/data/verification/verification_set.h"

namespace fr {
namespace {

TEST(SyntheticSet, IsAFunctionOfItsSeed) {
  const TemporaryDirectory directory;
  SyntheticSetOptions options;
  options.identities = 3;
  options.images_per_identity = 2;
  options.held_out_identities = 3;
  options.max_pairs = 20;
  const auto make = [&](const char* name, std::uint64_t seed, int threads) {
    options.seed = seed;
    options.threads = threads;
    WriteSyntheticSet(directory.path() / name, options);
    return ReadFile(directory.path() / name / "train.rec") +
           ReadFile(directory.path() / name / "synth.bin");
  };
  const std::string one = make("one", 1, 1);
  EXPECT_EQ(one, make("again", 1, 4));
  EXPECT_NE(one, make("other", 2, 1));
  const auto set = VerificationSet::Open(directory.path() / "one" / "synth.bin");
  EXPECT_EQ(set.num_pairs(), 20);
  EXPECT_EQ(DecodeImage(set.image(0)).height, 112);
}

}  // namespace
}  // namespace fr
