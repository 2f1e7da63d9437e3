#include "coordinator/launch/host_facts.h"

#include <gtest/gtest.h>

namespace fr {
namespace {

NodeReport Read(const std::string& answer) {
  NodeReport report;
  EXPECT_TRUE(ReadHostFacts(answer, &report)) << answer;
  return report;
}

// Greetings of a shell's start-up files are passed over.
TEST(ReadHostFacts, TellsFactsFromGreetings) {
  const NodeReport report = Read(
      "Welcome to node1.\n"
      "fr-cpus 64\n"
      "fr-memory-kib 527974508\n"
      "fr-gpu NVIDIA H100 80GB HBM3, 81559\n"
      "fr-gpu NVIDIA H100 80GB HBM3, 81559\n");
  EXPECT_EQ(report.cpus, 64);
  EXPECT_EQ(report.memory_bytes, 527'974'508LL * 1024);
  EXPECT_EQ(report.gpus, 2);
  ASSERT_EQ(report.gpu_list.size(), 2U);
  EXPECT_EQ(report.gpu_list[1].model(), "NVIDIA H100 80GB HBM3");
  EXPECT_EQ(report.gpu_list[1].memory_bytes(), 81559LL << 20);
}

TEST(ReadHostFacts, AHostMayHaveNoGpus) {
  const NodeReport report = Read("fr-cpus 8\nfr-memory-kib 1024\n");
  EXPECT_EQ(report.gpus, 0);
  EXPECT_TRUE(report.gpu_list.empty());
}

// One that shares the processor's memory is a GPU all the same.
TEST(ReadHostFacts, AGpusMemoryMayNotBeKnown) {
  const NodeReport report = Read("fr-cpus 8\nfr-gpu NVIDIA GB10, [N/A]\r\nfr-gpu A, B, 1024\n");
  ASSERT_EQ(report.gpus, 2);
  EXPECT_EQ(report.gpu_list[0].model(), "NVIDIA GB10");
  EXPECT_EQ(report.gpu_list[0].memory_bytes(), 0);
  EXPECT_EQ(report.gpu_list[1].model(), "A, B");
  EXPECT_EQ(report.gpu_list[1].memory_bytes(), 1LL << 30);
}

// nvidia-smi prints its complaints where it prints GPUs.
TEST(ReadHostFacts, ComplaintsAreNoGpus) {
  for (const char* complaint :
       {"NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure "
        "that the latest NVIDIA driver is installed and running.",
        "No devices were found", "Failed to initialize NVML: Driver/library version mismatch",
        "Unable to determine the device handle for GPU0: 0000:1B:00.0: GPU is lost.  Reboot the "
        "system to recover this GPU",
        "Sorry, no luck", "NVIDIA H100, -5", "NVIDIA H100, 99999999999999999999", ",", ""}) {
    EXPECT_EQ(Read(std::string("fr-cpus 8\nfr-gpu ") + complaint + "\n").gpus, 0) << complaint;
  }
}

// Whatever a login shell says instead: there is no machine without cores.
TEST(ReadHostFacts, AnotherAnswerIsNone) {
  for (const char* answer :
       {"", "This account is currently not available.\n", "fr-cpus\n", "fr-cpus many\n",
        "fr-cpus 0\n", "fr-cpus 99999999999\n", "fr-gpu NVIDIA H100, 81559\n"}) {
    NodeReport report;
    EXPECT_FALSE(ReadHostFacts(answer, &report)) << answer;
    EXPECT_EQ(report.gpus, 0);
  }
}

}  // namespace
}  // namespace fr
