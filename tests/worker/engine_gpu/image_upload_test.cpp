#include "worker/train/image_upload.h"

#include <gtest/gtest.h>

#include "common/base/random.h"
#include "emulated_gpu.h"
#include "worker/comm/mpi_communicator.h"
#include "worker/train/network_input.h"

namespace fr {
namespace {

Batch RandomBatch(std::size_t images, std::uint64_t seed) {
  Random random(seed);
  Batch batch{4, 6, {}, {}};
  batch.labels.assign(images, 0);
  batch.images.resize(images * 4 * 6 * 3);
  for (auto& pixel : batch.images) pixel = static_cast<std::uint8_t>(random.Below(256));
  return batch;
}

// Images come in the order in which they were started, two at most under way, whatever their
// number.
TEST(ImageUploadTest, GivesTheNetworksInput) {
  if (MpiCommunicator().rank() != 0) GTEST_SKIP() << "runs on rank 0";
  EmulatedGpu gpu;
  ImageUpload upload(gpu);
  Batch before = RandomBatch(3, 0);
  upload.Start(before);
  for (std::uint64_t step = 1; step < 6; ++step) {
    const at::Tensor expected = NetworkInput(before);
    Batch next = RandomBatch(step == 3 ? 2 : 3, step);
    upload.Start(next);
    std::fill(before.images.begin(), before.images.end(), 0);  // its memory is the caller's again
    const at::Tensor images = upload.Take();
    EXPECT_TRUE(images.allclose(expected, 1e-6, 1e-6)) << step;
    EXPECT_TRUE(images.is_contiguous(at::MemoryFormat::ChannelsLast));
    before = std::move(next);
  }
}

}  // namespace
}  // namespace fr
