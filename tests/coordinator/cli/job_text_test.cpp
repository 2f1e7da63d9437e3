#include "coordinator/cli/job_text.h"

#include <gtest/gtest.h>

namespace fr {
namespace {

NodeStatus WithGpus(const std::vector<std::string>& models) {
  NodeStatus node;
  for (const std::string& model : models) node.add_gpu_list()->set_model(model);
  return node;
}

TEST(GpuModelsCell, CountsEachModel) {
  EXPECT_EQ(GpuModelsCell(WithGpus({})), "-");
  EXPECT_EQ(GpuModelsCell(WithGpus({"NVIDIA L4"})), "1 x NVIDIA L4");
  EXPECT_EQ(GpuModelsCell(WithGpus(std::vector<std::string>(8, "NVIDIA H100 80GB HBM3"))),
            "8 x NVIDIA H100 80GB HBM3");
  EXPECT_EQ(GpuModelsCell(WithGpus({"A100", "L4", "A100"})), "2 x A100, 1 x L4");
}

// What a host calls its GPUs moves no terminal's cursor.
TEST(GpuModelsCell, IsOneLine) {
  EXPECT_EQ(GpuModelsCell(WithGpus({"H100\x1b[2J"})), "1 x H100 [2J");
}

}  // namespace
}  // namespace fr
