#include "coordinator/launch/mpi_job_status.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/launch/mpi_job.h"

namespace fr {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

constexpr std::int64_t kNowMs = 1'795'639'200'000;  // 2026-11-25T20:40:00Z

json MpiJob(const std::vector<std::string>& true_conditions) {
  json conditions = json::array();
  for (const std::string& type : true_conditions) {
    conditions.push_back({{"type", type},
                          {"status", "True"},
                          {"reason", type == "Failed" ? "BackoffLimitExceeded/" : "MPIJob" + type},
                          {"message", "as the operator words it"}});
  }
  return {{"metadata", {{"name", "fr-x"}}}, {"status", {{"conditions", conditions}}}};
}

json Pod(const std::string& role, const std::string& phase) {
  return {{"metadata", {{"name", "fr-x-" + role}, {"labels", {{kRoleLabel, role}}}}},
          {"spec", {{"nodeName", "node7"}}},
          {"status", {{"phase", phase}}}};
}

json Ended(json pod, int exit_code, const std::string& reason = "Error") {
  pod["status"]["containerStatuses"] =
      json::array({{{"name", "main"},
                    {"state", {{"terminated", {{"exitCode", exit_code}, {"reason", reason}}}}}}});
  return pod;
}

json Waiting(const std::string& reason) {
  json pod = Pod("worker", "Pending");
  pod["status"]["containerStatuses"] =
      json::array({{{"name", "main"},
                    {"state", {{"waiting", {{"reason", reason}, {"message", "no such image"}}}}}}});
  return pod;
}

AttemptStatus Look(const json& mpi_job, const std::vector<json>& pods) {
  return MpiJobStatus("fr-x", mpi_job, pods, kNowMs);
}

// Before the launcher runs, an attempt is in the cluster's queue, and says what it waits for.
TEST(MpiJobStatus, WaitsWithAReason) {
  const auto reason = [](const json& mpi_job, const std::vector<json>& pods) {
    const AttemptStatus status = Look(mpi_job, pods);
    EXPECT_EQ(status.phase, AttemptPhase::kQueued);
    return status.reason;
  };
  EXPECT_THAT(reason(MpiJob({}), {}), HasSubstr("MPI Operator"));
  EXPECT_THAT(reason(MpiJob({"Created"}), {}), HasSubstr("kubectl describe mpijob fr-x"));
  EXPECT_EQ(reason(MpiJob({"Created"}), {Pod("worker", "Running"), Pod("worker", "Pending")}),
            "1 of 2 pods run");
  EXPECT_EQ(reason(MpiJob({"Created"}), {Waiting("ImagePullBackOff")}),
            "pod fr-x-worker: ImagePullBackOff: no such image");
  EXPECT_EQ(reason(MpiJob({"Created"}), {Waiting("ContainerCreating")}), "0 of 1 pods run");
  EXPECT_THAT(reason(MpiJob({"Created", "Suspended"}), {}), HasSubstr("suspended"));
}

TEST(MpiJobStatus, TellsWhyAPodFindsNoNode) {
  json pod = Pod("worker", "Pending");
  pod["status"]["conditions"] = json::array({{{"type", "PodScheduled"},
                                              {"status", "False"},
                                              {"reason", "Unschedulable"},
                                              {"message", "0/3 nodes are available"}}});
  EXPECT_EQ(Look(MpiJob({"Created"}), {pod}).reason,
            "pod fr-x-worker: Unschedulable: 0/3 nodes are available");
}

// It runs from when the launcher's pod does, whether or not the operator has noticed.
TEST(MpiJobStatus, RunsWithItsLauncher) {
  EXPECT_EQ(Look(MpiJob({"Created", "Running"}), {}).phase, AttemptPhase::kRunning);
  EXPECT_EQ(Look(MpiJob({"Created"}), {Pod("launcher", "Running")}).phase, AttemptPhase::kRunning);
  EXPECT_EQ(Look(MpiJob({"Created"}), {Pod("worker", "Running")}).phase, AttemptPhase::kQueued);
}

// An end is one only when no pod may have processes any more.
TEST(MpiJobStatus, EndsWithItsLastPod) {
  const json done = MpiJob({"Created", "Succeeded"});
  const json launcher = Ended(Pod("launcher", "Succeeded"), 0, "Completed");
  EXPECT_EQ(Look(done, {launcher, Pod("worker", "Running")}).phase, AttemptPhase::kRunning);
  const AttemptStatus status = Look(done, {launcher});
  EXPECT_EQ(status.phase, AttemptPhase::kEnded);
  EXPECT_EQ(status.exit_status, 0);
  EXPECT_EQ(status.reason, "");
  EXPECT_EQ(Look(done, {}).exit_status, 0);
}

// A program that failed by itself has an exit status; why is in its log, not here.
TEST(MpiJobStatus, TellsTheExitStatus) {
  const AttemptStatus status = Look(MpiJob({"Failed"}), {Ended(Pod("launcher", "Failed"), 3)});
  EXPECT_EQ(status.phase, AttemptPhase::kEnded);
  EXPECT_EQ(status.exit_status, 3);
  EXPECT_EQ(status.reason, "");
  EXPECT_EQ(Look(MpiJob({"Failed"}), {}).exit_status, std::nullopt);
  EXPECT_THAT(Look(MpiJob({"Failed"}), {}).reason, HasSubstr("as the operator words it"));
}

// What Kubernetes did to a pod is not in any log of ours.
TEST(MpiJobStatus, TellsWhatKubernetesDid) {
  json evicted = Pod("worker", "Failed");
  evicted["status"]["reason"] = "Evicted";
  const AttemptStatus status =
      Look(MpiJob({"Failed"}), {Ended(Pod("launcher", "Failed"), 1), evicted,
                                Ended(Pod("worker", "Failed"), 137, "OOMKilled")});
  EXPECT_THAT(status.reason, AllOf(HasSubstr("fr-x-worker on node7: Evicted"),
                                   HasSubstr("fr-x-worker on node7: OOMKilled")));
}

// A drained node is not the job's fault, as a pod that used up its node's memory is.
TEST(MpiJobStatus, ADisruptedPodIsNotTheJobsFault) {
  json pod = Pod("worker", "Failed");
  for (const char* reason : {"EvictionByEvictionAPI", "PreemptionByScheduler"}) {
    pod["status"]["conditions"] =
        json::array({{{"type", "DisruptionTarget"}, {"status", "True"}, {"reason", reason}}});
    const AttemptStatus status =
        Look(MpiJob({"Failed"}), {Ended(Pod("launcher", "Failed"), 1), pod});
    EXPECT_TRUE(status.nodes_lost);
    EXPECT_THAT(status.reason, HasSubstr(reason));
  }
  pod["status"]["conditions"][0]["reason"] = "TerminationByKubelet";
  EXPECT_FALSE(Look(MpiJob({"Failed"}), {pod}).nodes_lost);
}

// Deleted by someone else: over when MPIJob and pods are gone, whichever goes first.
TEST(MpiJobStatus, IsGoneWhenItsPodsAre) {
  EXPECT_EQ(Look(nullptr, {Pod("worker", "Running")}).phase, AttemptPhase::kRunning);
  const AttemptStatus gone = Look(nullptr, {});
  EXPECT_EQ(gone.phase, AttemptPhase::kEnded);
  EXPECT_EQ(gone.exit_status, std::nullopt);
  EXPECT_THAT(gone.reason, HasSubstr("deleted"));
  json leaving = MpiJob({"Created", "Running"});
  leaving["metadata"]["deletionTimestamp"] = "2026-11-25T20:39:59Z";
  EXPECT_EQ(Look(leaving, {}).phase, AttemptPhase::kRunning);
}

// A node that went silent does not hold an attempt for ever, but for a minute.
TEST(MpiJobStatus, DoesNotWaitForASilentNode) {
  json leaving = MpiJob({"Created", "Running"});
  leaving["metadata"]["deletionTimestamp"] = "2026-11-25T20:30:00Z";
  json pod = Pod("worker", "Running");
  pod["metadata"]["deletionTimestamp"] = "2026-11-25T20:39:30Z";  // 30 s ago
  EXPECT_EQ(Look(leaving, {pod}).phase, AttemptPhase::kRunning);
  EXPECT_EQ(Look(nullptr, {pod}).phase, AttemptPhase::kRunning);
  pod["metadata"]["deletionTimestamp"] = "2026-11-25T20:38:30Z";
  for (const json& mpi_job : {leaving, json()}) {
    const AttemptStatus status = Look(mpi_job, {pod});
    EXPECT_EQ(status.phase, AttemptPhase::kEnded);
    EXPECT_THAT(status.reason, HasSubstr("fr-x-worker on node7"));
    EXPECT_TRUE(status.nodes_lost);
  }
}

// Whatever an answer holds in the place of what is expected, it is read without harm.
TEST(MpiJobStatus, TakesAnything) {
  for (const char* text : {"{}", "[]", "3", R"({"status": 3})", R"({"status": {"conditions": 3}})",
                           R"({"status": {"conditions": [3, {"type": 1, "status": []}]}})",
                           R"({"metadata": {"deletionTimestamp": 5}})",
                           R"({"metadata": {"labels": "x"}, "status": {"phase": {},
                               "containerStatuses": [{"state": {"terminated": {"exitCode": "x"}}},
                                                     7, {"state": {"waiting": []}}]}})"}) {
    const json odd = json::parse(text);
    Look(odd, {odd, odd});
    Look(MpiJob({"Failed"}), {odd});
    Look(MpiJob({"Created"}), {odd});
  }
}

}  // namespace
}  // namespace fr
