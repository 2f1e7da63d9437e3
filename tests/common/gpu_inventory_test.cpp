#include "common/base/gpu_inventory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/common/environment_variable.h"

namespace fr {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

struct Found {
  std::vector<GpuInfo> gpus;
  std::string trouble;
};

// What there is with fake_nvml.c in the role of `role`; null: two GPUs.
Found FindWithFake(const char* role) {
  const EnvironmentVariable library("FR_NVML_LIBRARY", FR_FAKE_NVML_LIBRARY);
  const EnvironmentVariable fake("FR_FAKE_NVML", role);
  Found found;
  found.gpus = FindGpus(&found.trouble);
  return found;
}

Found FindWithLibrary(const char* library) {
  const EnvironmentVariable variable("FR_NVML_LIBRARY", library);
  Found found;
  found.gpus = FindGpus(&found.trouble);
  return found;
}

TEST(FindGpus, TellsWhatEachOneIs) {
  const auto [gpus, trouble] = FindWithFake(nullptr);
  EXPECT_THAT(trouble, IsEmpty());
  ASSERT_EQ(gpus.size(), 2U);
  EXPECT_EQ(gpus[0].index, 0);
  EXPECT_EQ(gpus[0].name, "NVIDIA H100 80GB HBM3");
  EXPECT_EQ(gpus[0].uuid, "GPU-00000000-0000-0000-0000-000000000001");
  EXPECT_EQ(gpus[0].memory_bytes, 85'520'809'984);
  EXPECT_EQ(gpus[0].memory_free_bytes, 85'000'000'000);
  EXPECT_EQ(gpus[0].compute_major, 9);
  EXPECT_EQ(gpus[0].compute_minor, 0);
  EXPECT_EQ(gpus[1].index, 1);
  EXPECT_EQ(gpus[1].name, "NVIDIA A100-SXM4-40GB");
  EXPECT_EQ(gpus[1].compute_major, 8);
}

// What this process may use is another question.
TEST(FindGpus, CountsTheMachinesWhateverTheProcessMayUse) {
  const EnvironmentVariable visible("CUDA_VISIBLE_DEVICES", "");
  EXPECT_EQ(FindWithFake(nullptr).gpus.size(), 2U);
}

// Looked for again and again, as the library is closed each time.
TEST(FindGpus, CanBeAskedAgain) {
  for (int i = 0; i < 3; ++i) EXPECT_EQ(FindWithFake(nullptr).gpus.size(), 2U);
  const EnvironmentVariable library("FR_NVML_LIBRARY", FR_FAKE_NVML_LIBRARY);
  EXPECT_EQ(FindGpus().size(), 2U);  // a caller who does not want to know of trouble
}

TEST(FindGpus, ADriverWithoutGpusIsNoTrouble) {
  const auto [gpus, trouble] = FindWithFake("no-gpus");
  EXPECT_THAT(gpus, IsEmpty());
  EXPECT_THAT(trouble, IsEmpty());
}

// In the library's words, with its name.
TEST(FindGpus, SaysWhyADriverFails) {
  const auto [gpus, trouble] = FindWithFake("no-driver");
  EXPECT_THAT(gpus, IsEmpty());
  EXPECT_THAT(trouble, AllOf(HasSubstr("fake_nvml"), HasSubstr("nvmlInit_v2: Driver Not Loaded"),
                             Not(HasSubstr("\n"))));
}

// The others keep their numbers.
TEST(FindGpus, LeavesOutAGpuThatDoesNotAnswer) {
  const auto [gpus, trouble] = FindWithFake("lost-gpu");
  ASSERT_EQ(gpus.size(), 1U);
  EXPECT_EQ(gpus[0].index, 1);
  EXPECT_THAT(trouble, HasSubstr("GPU 0: GPU is lost"));
}

TEST(FindGpus, AGpuMayNotTellItsMemory) {
  const auto [gpus, trouble] = FindWithFake("shared-memory");
  EXPECT_THAT(trouble, IsEmpty());
  ASSERT_EQ(gpus.size(), 2U);
  EXPECT_EQ(gpus[0].memory_bytes, 0);
  EXPECT_EQ(gpus[0].compute_major, 0);
}

// A library that was named should be there, and be NVML.
TEST(FindGpus, SaysWhatIsWrongWithANamedLibrary) {
  Found found = FindWithLibrary("/no/such/library.so");
  EXPECT_THAT(found.gpus, IsEmpty());
  EXPECT_THAT(found.trouble, AllOf(HasSubstr("FR_NVML_LIBRARY"), HasSubstr("/no/such/library.so")));
  found = FindWithLibrary("libm.so.6");
  EXPECT_THAT(found.gpus, IsEmpty());
  EXPECT_EQ(found.trouble, "libm.so.6: no nvmlInit_v2 there");
}

// Machines without NVIDIA's driver, and those that have one: neither is an error.
TEST(FindGpus, LooksForTheDriversLibraryByItself) {
  for (const char* unset : {static_cast<const char*>(nullptr), ""}) {
    const auto [gpus, trouble] = FindWithLibrary(unset);
    EXPECT_THAT(trouble, Not(HasSubstr("FR_NVML_LIBRARY")));
  }
}

}  // namespace
}  // namespace fr
