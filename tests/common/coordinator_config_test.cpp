#include "common/config/coordinator_config.h"

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/file.h"
#include "common/base/temporary_directory.h"
#include "common/config/job_config.h"

namespace fr {
namespace {

using testing::HasSubstr;

class CoordinatorConfigTest : public testing::Test {
 protected:
  CoordinatorConfig Load(const std::string& text, const std::vector<std::string>& overrides = {}) {
    const auto path = directory_.path() / "coordinator.yaml";
    WriteFileAtomically(path, "state_dir: state\n" + text);
    return LoadCoordinatorConfig(path, overrides);
  }
  std::string Mistakes(const std::string& text) {
    return FormatDiagnostics(Load(text).diagnostics);
  }

  TemporaryDirectory directory_;
};

TEST_F(CoordinatorConfigTest, AShortFileIsThisMachine) {
  const CoordinatorConfig config = Load("");
  EXPECT_TRUE(config.diagnostics.empty());
  EXPECT_EQ(config.spec.launcher(), LauncherKind::local);
  ASSERT_EQ(config.spec.nodes_size(), 1);
  EXPECT_EQ(config.spec.nodes(0).name(), "localhost");
  EXPECT_GE(config.spec.nodes(0).slots(), 1);
  EXPECT_EQ(config.spec.state_dir(), (directory_.path() / "state").string());
}

TEST_F(CoordinatorConfigTest, ValuesAreRead) {
  const CoordinatorConfig config = Load(
      "launcher: hosts\n"
      "nodes: [{name: n1, slots: 8, gpus: 4, labels: [a100], group: rack1, memory_gib: 512}]\n"
      "ssh: {args: [-F, /etc/fr/ssh], probe_every: 5s}\n"
      "scheduler: {fair_share_half_life: 3d, preemption: false}\n"
      "limits: {max_workers: 16}\n"
      "users: [{name: ada, limits: {share: 2}}]\n"
      "cordon: {failures: 5, within: 30m}\n",
      {"kill_grace=3s"});
  EXPECT_EQ(FormatDiagnostics(config.diagnostics), "");
  EXPECT_EQ(config.spec.ssh().probe_every_ms(), 5000);
  EXPECT_EQ(config.spec.scheduler().fair_share_half_life_ms(), 3 * 24 * 3600 * 1000LL);
  EXPECT_EQ(config.spec.cordon().within_ms(), 30 * 60 * 1000);
  EXPECT_EQ(config.spec.kill_grace_ms(), 3000);
}

// Each by line and column, with what would be right.
TEST_F(CoordinatorConfigTest, MistakesAreNamedByPlaceAndRemedy) {
  EXPECT_THAT(Mistakes("nodes: [{name: node1, slots: 8}]\n"),
              HasSubstr("coordinator.yaml:2:16: nodes[0].name: launcher local starts workers on "
                        "localhost only; say launcher: hosts"));
  EXPECT_THAT(Mistakes("launcher: hosts\n"), HasSubstr("hosts needs nodes"));
  EXPECT_THAT(Mistakes("launcher: slurm\nnodes: [{name: a, slots: 1}, {name: b, slots: 1}]\n"),
              HasSubstr("slurm needs one node"));
  EXPECT_THAT(Mistakes("launcher: kubernetes\nnodes: [{name: k, slots: 1}]\n"),
              HasSubstr("kubernetes.image"));
  EXPECT_THAT(Mistakes("launcher: pbs\n"), HasSubstr("local, hosts, slurm, kubernetes"));
  EXPECT_THAT(Mistakes("users: [{name: ada}, {name: ada}]\n"), HasSubstr("'ada' is listed twice"));
  EXPECT_THAT(Mistakes("nodes: [{name: localhost, slots: 1}, {name: localhost, slots: 1}]\n"),
              HasSubstr("nodes[1].name: 'localhost' is listed twice"));
  EXPECT_THAT(Mistakes("advertise: head1\n"), HasSubstr("'head1' is no tcp://HOST:PORT"));
  EXPECT_THAT(Mistakes("nodes: [{name: localhost}]\n"), HasSubstr("slots"));
}

TEST(CoordinatorFiles, OfTheRepositoryAreRight) {
  for (const char* file : {"configs/coordinator.yaml", "configs/coordinator-hosts.yaml",
                           "configs/coordinator-slurm.yaml", "k8s/base/coordinator.yaml"}) {
    const std::filesystem::path path = std::filesystem::path(FR_SOURCE_DIR) / file;
    EXPECT_EQ(FormatDiagnostics(LoadCoordinatorConfig(path, {}).diagnostics), "");
  }
}

}  // namespace
}  // namespace fr
