#include "worker/train/choose_gpu.h"

#include <string>

#include <gtest/gtest.h>

#include "common/base/error.h"
#include "worker/comm/mpi_communicator.h"
#include "worker/gpu/open_gpu.h"

namespace fr {
namespace {

class ChooseGpuTest : public testing::Test {
 protected:
  void SetUp() override {
    if (CountGpus() > 0) GTEST_SKIP() << "this machine has GPUs";
  }
  MpiCommunicator comm_;
};

TEST_F(ChooseGpuTest, AutoIsTheProcessorWhereThereIsNoGpu) {
  EXPECT_EQ(ChooseGpu(Resources::auto_, false, comm_), nullptr);
  EXPECT_EQ(ChooseGpu(Resources::cpu, false, comm_), nullptr);
}

TEST_F(ChooseGpuTest, AskedForEveryRankSaysWhatIsMissing) {
  try {
    ChooseGpu(Resources::gpu, false, comm_);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    const std::string missing = HasGpuSupport() ? "sees no GPU" : "built without GPU support";
    EXPECT_NE(std::string(error.what()).find(missing), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("resources.device"), std::string::npos);
  }
}

}  // namespace
}  // namespace fr
