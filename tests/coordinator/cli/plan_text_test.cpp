// What a plan says of GPUs.

#include "coordinator/cli/plan_text.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "coordinator/cli/gpu_offer.h"

namespace fr {
namespace {

constexpr std::int64_t kGiB = std::int64_t{1} << 30;

JobSpec Spec(Resources::Device device) {
  JobSpec spec;
  spec.mutable_resources()->set_device(device);
  spec.mutable_model()->set_network(Network::r18);
  return spec;
}

DataFacts Facts() { return {.identities = 10'000, .images = 1'000'000}; }

NodeStatus Node(const std::string& name, const std::string& model, std::int64_t bytes) {
  NodeStatus node;
  node.set_name(name);
  GpuDescription& gpu = *node.add_gpu_list();
  gpu.set_model(model);
  gpu.set_memory_bytes(bytes);
  return node;
}

TEST(GpuOffer, IsTheMachineFiles) {
  MachineModel machine;
  EXPECT_EQ(GpuOfMachine(machine).bytes, 0);
  machine.set_name("mine");
  machine.set_gpu_memory_gib(1.5);
  EXPECT_EQ(GpuOfMachine(machine).bytes, 3 * kGiB / 2);
  EXPECT_EQ(GpuOfMachine(machine).source, "mine");
}

TEST(GpuOffer, IsTheSmallestOfNodesThatWouldDo) {
  ListNodesReply reply;
  *reply.add_nodes() = Node("n1", "L4", 24 * kGiB);
  *reply.add_nodes() = Node("n2", "H100", 80 * kGiB);
  reply.mutable_nodes(1)->add_labels("big");
  *reply.add_nodes() = Node("n3", "", 0);  // not known
  reply.mutable_nodes(2)->add_labels("odd");
  Resources resources;
  EXPECT_EQ(SmallestGpu(reply, resources).bytes, 24 * kGiB);
  EXPECT_EQ(SmallestGpu(reply, resources).source, "L4 of n1");
  resources.add_labels("big");
  EXPECT_EQ(SmallestGpu(reply, resources).bytes, 80 * kGiB);
  resources.add_labels("n2");  // a name is a label
  EXPECT_EQ(SmallestGpu(reply, resources).bytes, 80 * kGiB);
  resources.clear_labels();
  resources.add_labels("odd");
  EXPECT_EQ(SmallestGpu(reply, resources).bytes, 0);
  EXPECT_NE(SmallestGpu(reply, resources).source.find("gpu_memory_gib"), std::string::npos);
}

TEST(DescribePlan, SaysWhetherItFitsTheGpu) {
  const JobSpec spec = Spec(Resources::gpu);
  const std::string fits = DescribePlan(spec, Facts(), MachineModel(), {80 * kGiB, "H100 of n2"});
  EXPECT_NE(fits.find("of each worker's GPU"), std::string::npos) << fits;
  EXPECT_NE(fits.find("H100 of n2 has 80.0 GiB: it fits, and leaves"), std::string::npos) << fits;
  EXPECT_NE(fits.find("of its node for each worker"), std::string::npos) << fits;
  const std::string small = DescribePlan(spec, Facts(), MachineModel(), {kGiB, "tiny"});
  EXPECT_NE(small.find("tiny has 1.0 GiB: IT DOES NOT FIT"), std::string::npos) << small;
  const std::string unknown = DescribePlan(spec, Facts(), MachineModel(), {0, "nobody knows"});
  EXPECT_NE(unknown.find("nobody knows"), std::string::npos) << unknown;
  EXPECT_EQ(unknown.find("fits"), std::string::npos) << unknown;
}

TEST(DescribePlan, OfAProcessorKnowsNoGpuAndHintsAtIt) {
  const std::string text = DescribePlan(Spec(Resources::auto_), Facts(), MachineModel(), {});
  EXPECT_EQ(text.find("  gpu "), std::string::npos) << text;
  EXPECT_NE(text.find("--set resources.device=gpu"), std::string::npos) << text;
  const std::string cpu = DescribePlan(Spec(Resources::cpu), Facts(), MachineModel(), {});
  EXPECT_EQ(cpu.find("resources.device"), std::string::npos) << cpu;
}

TEST(PlanJson, HasTheGpusItems) {
  using json = nlohmann::json;
  const GpuOffer offer{80 * kGiB, "H100 of n2"};
  const json gpu =
      json::parse(PlanJson(Spec(Resources::gpu), Facts(), MachineModel(), offer))["gpu"];
  std::int64_t sum = 0;
  for (const json& item : gpu["memory"]) sum += item["bytes"].get<std::int64_t>();
  EXPECT_EQ(gpu["memory_bytes"], sum);
  EXPECT_EQ(gpu["available_bytes"], 80 * kGiB);
  EXPECT_EQ(gpu["fits"], true);
  const json unknown =
      json::parse(PlanJson(Spec(Resources::gpu), Facts(), MachineModel(), {}))["gpu"];
  EXPECT_TRUE(unknown["fits"].is_null());
  const json cpu = json::parse(PlanJson(Spec(Resources::cpu), Facts(), MachineModel(), offer));
  EXPECT_TRUE(cpu["gpu"].is_null());
}

// The files that come with the program are right, and know how large their GPU is.
TEST(LoadMachine, ReadsTheFilesOfGpus) {
  for (const std::string name : {"h100", "h200"}) {
    const MachineConfig config =
        LoadMachine(std::string(FR_SOURCE_DIR) + "/configs/machines/" + name + ".yaml");
    EXPECT_TRUE(config.diagnostics.empty()) << name;
    EXPECT_GT(GpuOfMachine(config.machine).bytes, 70 * kGiB) << name;
    EXPECT_EQ(config.machine.rates_of(), MachineModel::worker) << name;
  }
}

}  // namespace
}  // namespace fr
