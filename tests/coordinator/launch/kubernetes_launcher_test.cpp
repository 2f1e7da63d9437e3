#include "coordinator/launch/kubernetes_launcher.h"

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/temporary_directory.h"
#include "coordinator/launch/attempt_files.h"
#include "tests/coordinator/launch/fake_kubernetes.h"
#include "tests/coordinator/wait_for.h"

namespace fr {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using Reply = FakeKubernetes::Reply;
using Request = FakeKubernetes::Request;

constexpr const char* kMpiJobs = "/apis/kubeflow.org/v2beta1/namespaces/lab/mpijobs";
constexpr const char* kPods = "/api/v1/namespaces/lab/pods";

Reply Json(const json& body, int status = 200) { return {status, body.dump(), {}}; }

// An API server that keeps MPIJobs, and can lose the answer to a POST.
class KubernetesLauncherTest : public testing::Test {
 protected:
  KubernetesLauncherTest() {
    spec_.set_state_dir((directory_.path() / "state").string());
    NodeSpec* node = spec_.add_nodes();
    node->set_name("cluster");
    node->set_slots(8);
    KubernetesSpec* kubernetes = spec_.mutable_kubernetes();
    kubernetes->set_api(server_.url());
    kubernetes->set_namespace_("lab");
    kubernetes->set_image("fr:test");
    kubernetes->set_token_file(server_.File("token"));
    kubernetes->set_ca_file(server_.File("server.crt"));
    kubernetes->set_volume_claim("shared");
    kubernetes->set_mount_path(directory_.path().string());
    server_.Handle([this](const Request& request) { return Answer(request); });
  }

  std::unique_ptr<Launcher> Make() { return MakeKubernetesLauncher(spec_, "/bin/fr-worker"); }

  LaunchRequest Attempt(int attempt) {
    LaunchRequest request;
    request.job_id = "job-3";
    request.attempt = attempt;
    request.slots.emplace_back();
    request.slots.back().set_node("cluster");
    request.slots.back().set_slots(2);
    request.coordinator = "tcp://coordinator:7070";
    request.directory =
        directory_.path() / "state" / "jobs" / ("attempt-" + std::to_string(attempt));
    return request;
  }

  Reply Answer(const Request& request) {
    if (status_ != 0) return Json({{"message", "as told"}}, status_);
    if (request.path == kPods) return Json({{"items", json::array()}});
    if (request.path == kMpiJobs && request.method == "GET") {
      json items = json::array();
      for (const auto& [name, job] : jobs_) items.push_back(job);
      return Json({{"items", items}});
    }
    if (request.method == "POST") return Create(request.body);
    const std::string name = request.path.substr(request.path.rfind('/') + 1);
    const auto found = jobs_.find(name);
    if (found == jobs_.end()) return Json({{"reason", "NotFound"}}, 404);
    const json job = found->second;
    if (request.method == "DELETE") jobs_.erase(found);
    return Json(job);
  }

  Reply Create(const json& job) {
    const std::string name = job["metadata"]["name"];
    if (jobs_.contains(name)) return Json({{"reason", "AlreadyExists"}}, 409);
    if (post_ != Post::kLost) jobs_[name] = job;
    return post_ == Post::kAnswered ? Json(job, 201) : Reply{504, "{}", {}};
  }

  ErrorCode CodeOf(const std::function<void()>& call) {
    try {
      call();
    } catch (const Error& error) {
      message_ = error.what();
      return error.code();
    }
    ADD_FAILURE() << "nothing was thrown";
    return ErrorCode::kInternal;
  }

  enum class Post { kAnswered, kUnanswered, kLost };

  TemporaryDirectory directory_;
  FakeKubernetes server_;
  CoordinatorSpec spec_;
  std::map<std::string, json> jobs_;
  Post post_ = Post::kAnswered;
  int status_ = 0;
  std::string message_;
};

// An attempt is one MPIJob with a name that a later coordinator knows, too.
TEST_F(KubernetesLauncherTest, StartMakesOneMpiJob) {
  const LaunchRecord record = Make()->Start(Attempt(1));
  ASSERT_EQ(jobs_.size(), 1);
  EXPECT_EQ(jobs_.begin()->first, record.handle());
  EXPECT_EQ(record.directory(), Attempt(1).directory.string());
  EXPECT_EQ(record.slots(0).slots(), 2);
  EXPECT_TRUE(std::filesystem::is_directory(record.directory()));
  const std::optional<LaunchRecord> recovered = Make()->Recover(Attempt(1));
  ASSERT_TRUE(recovered.has_value());
  EXPECT_EQ(recovered->handle(), record.handle());
}

// A second call for the same attempt takes over what the first has made.
TEST_F(KubernetesLauncherTest, StartAdoptsWhatIsThere) {
  const LaunchRecord record = Make()->Start(Attempt(1));
  EXPECT_EQ(Make()->Start(Attempt(1)).handle(), record.handle());
  EXPECT_EQ(jobs_.size(), 1);
}

// Two coordinators in one namespace never take each other's MPIJobs for their own.
TEST_F(KubernetesLauncherTest, CoordinatorsHaveNamesOfTheirOwn) {
  const LaunchRecord record = Make()->Start(Attempt(1));
  spec_.set_state_dir((directory_.path() / "other").string());
  EXPECT_NE(Make()->Start(Attempt(1)).handle(), record.handle());
  std::ofstream(directory_.path() / "other/kubernetes-instance") << "damaged!!!";
  EXPECT_EQ(CodeOf([&] { Make(); }), ErrorCode::kDataLoss);
}

// What is refused has not started, and a job's owner reads why.
TEST_F(KubernetesLauncherTest, ARefusalIsNoStart) {
  for (const int status : {400, 401, 403, 404, 422}) {
    status_ = status;
    EXPECT_EQ(CodeOf([&] { Make()->Start(Attempt(1)); }), ErrorCode::kFailedPrecondition);
    EXPECT_THAT(message_, HasSubstr("as told"));
  }
  status_ = 429;
  EXPECT_EQ(CodeOf([&] { Make()->Start(Attempt(1)); }), ErrorCode::kUnavailable);
  // Nothing is void: the same attempt may be started once the cause is mended.
  EXPECT_FALSE(std::filesystem::exists(Attempt(1).directory / kClaimFile));
}

// The answer to the request is lost, but what it made is there.
TEST_F(KubernetesLauncherTest, AnMpiJobWithoutAnAnswerIsFound) {
  post_ = Post::kUnanswered;
  const LaunchRecord record = Make()->Start(Attempt(1));
  ASSERT_EQ(jobs_.size(), 1);
  EXPECT_EQ(jobs_.begin()->first, record.handle());
}

// The request seems lost, and arrives late: the attempt was given up, so its launcher will start
// nothing, and its MPIJob is deleted.
TEST_F(KubernetesLauncherTest, ALateMpiJobIsDeleted) {
  post_ = Post::kLost;
  std::unique_ptr<Launcher> launcher = Make();
  EXPECT_EQ(CodeOf([&] { launcher->Start(Attempt(1)); }), ErrorCode::kUnavailable);
  EXPECT_EQ(ClaimVoid(Attempt(1).directory), std::nullopt);

  json late = server_.requests().at(0).body;
  post_ = Post::kAnswered;
  const LaunchRecord next = launcher->Start(Attempt(2));
  jobs_[late["metadata"]["name"]] = late;
  EXPECT_TRUE(WaitFor([&] {
    launcher->Look({next});
    return jobs_.size() == 1;
  }));
  EXPECT_EQ(jobs_.begin()->first, next.handle());
}

// An MPIJob of ours that is in no record, but was not given up, may be one that another thread of
// events is about to recover: it stays.
TEST_F(KubernetesLauncherTest, AnMpiJobThatWasNotGivenUpStays) {
  Make()->Start(Attempt(1));
  std::unique_ptr<Launcher> launcher = Make();
  launcher->Look({});
  EXPECT_EQ(jobs_.size(), 1);
}

// The coordinator died before its request left: nothing is there, and nothing will be.
TEST_F(KubernetesLauncherTest, RecoverOfNothingIsFinal) {
  EXPECT_EQ(Make()->Recover(Attempt(1)), std::nullopt);
  EXPECT_EQ(ClaimVoid(Attempt(1).directory), std::nullopt);
}

// Its launcher ran, and someone has deleted the MPIJob since: it did start.
TEST_F(KubernetesLauncherTest, RecoverFindsAClaim) {
  const LaunchRequest request = Attempt(1);
  MakeDirectories(request.directory);
  std::ofstream(request.directory / kClaimFile) << "fr-abcdefgh-job-3-1\n";
  std::unique_ptr<Launcher> launcher = Make();
  const std::optional<LaunchRecord> record = launcher->Recover(request);
  ASSERT_TRUE(record.has_value());
  const AttemptStatus status = launcher->Look({*record}).at(0);
  EXPECT_EQ(status.phase, AttemptPhase::kEnded);
  EXPECT_THAT(status.reason, HasSubstr("deleted"));
}

// Without an answer it cannot be told, and nothing is decided.
TEST_F(KubernetesLauncherTest, RecoverWaitsForAnAnswer) {
  Make()->Start(Attempt(1));
  for (const int status : {401, 403, 500}) {
    status_ = status;
    EXPECT_EQ(CodeOf([&] { Make()->Recover(Attempt(1)); }), ErrorCode::kUnavailable);
  }
  status_ = 0;
  EXPECT_TRUE(Make()->Recover(Attempt(1)).has_value());
}

// A look asks for MPIJobs and pods once, however many attempts there are, and again a second later.
TEST_F(KubernetesLauncherTest, LooksAtAllAtOnce) {
  std::unique_ptr<Launcher> launcher = Make();
  std::vector<LaunchRecord> records;
  for (int attempt = 0; attempt < 20; ++attempt)
    records.push_back(launcher->Start(Attempt(attempt)));
  const std::size_t before = server_.requests().size();
  EXPECT_EQ(launcher->Look(records).size(), 20);
  launcher->Look(records);
  launcher->Nodes();
  EXPECT_EQ(server_.requests().size(), before + 2);
  for (const AttemptStatus& status : launcher->Look(records)) {
    EXPECT_EQ(status.phase, AttemptPhase::kQueued);
  }
  EXPECT_TRUE(WaitFor([&] {
    launcher->Look(records);
    return server_.requests().size() > before + 2;
  }));
}

// A cluster that does not answer ends no attempt.
TEST_F(KubernetesLauncherTest, WhatCannotBeSeenIsUnknown) {
  const LaunchRecord record = Make()->Start(Attempt(1));
  for (const int status : {401, 403, 404, 500}) {
    status_ = status;
    std::unique_ptr<Launcher> launcher = Make();
    const AttemptStatus answer = launcher->Look({record}).at(0);
    EXPECT_EQ(answer.phase, AttemptPhase::kUnknown);
    EXPECT_THAT(answer.reason, HasSubstr(std::to_string(status)));
    const NodeReport node = launcher->Nodes().at(0);
    EXPECT_EQ(node.liveness, NodeStatus::DOWN);
    EXPECT_EQ(node.seen_ms, 0);
    EXPECT_THAT(node.reason, HasSubstr(std::to_string(status)));
  }
  LaunchRecord unknown;
  unknown.set_directory("/somewhere");
  status_ = 0;
  EXPECT_EQ(Make()->Look({unknown}).at(0).phase, AttemptPhase::kUnknown);
}

// One failed look among others says that the cluster is busy, not that it is down.
TEST_F(KubernetesLauncherTest, ANodeIsUpWhileItAnsweredLately) {
  std::unique_ptr<Launcher> launcher = Make();
  const NodeReport up = launcher->Nodes().at(0);
  EXPECT_EQ(up.name, "cluster");
  EXPECT_EQ(up.liveness, NodeStatus::UP);
  EXPECT_GT(up.seen_ms, 0);
  EXPECT_FALSE(launcher->DealsOutMachines());
  // Recover makes it look anew.
  EXPECT_EQ(launcher->Recover(Attempt(1)), std::nullopt);
  status_ = 500;
  const NodeReport busy = launcher->Nodes().at(0);
  EXPECT_EQ(server_.requests().back().path, kMpiJobs);
  EXPECT_EQ(busy.liveness, NodeStatus::UP);
  EXPECT_EQ(busy.seen_ms, up.seen_ms);
}

// Asking deletes the MPIJob, which takes its pods along and stays until they are gone; killing also
// cuts the pods' time to end.
TEST_F(KubernetesLauncherTest, StopDeletes) {
  std::unique_ptr<Launcher> launcher = Make();
  const LaunchRecord record = launcher->Start(Attempt(1));
  launcher->Stop(record, StopMode::kAsk);
  const Request ask = server_.requests().back();
  EXPECT_EQ(ask.path, kMpiJobs + ("/" + record.handle()));
  EXPECT_EQ(ask.body["propagationPolicy"], "Foreground");
  launcher->Stop(record, StopMode::kKill);  // its MPIJob has gone: no error
  const Request kill = server_.requests().back();
  EXPECT_EQ(kill.method + kill.path, std::string("DELETE") + kPods);
  EXPECT_EQ(kill.query.find("labelSelector")->second,
            "app.kubernetes.io/instance=" + record.handle());
  EXPECT_EQ(kill.body["gracePeriodSeconds"], 1);
  status_ = 500;
  launcher->Stop(record, StopMode::kKill);  // nor is a cluster that does not answer
}

// What the configuration lacks is said at the start, with the key.
TEST_F(KubernetesLauncherTest, TheConfigurationIsChecked) {
  const auto complaint = [&](const std::function<void(KubernetesSpec*)>& change) {
    const CoordinatorSpec before = spec_;
    change(spec_.mutable_kubernetes());
    EXPECT_EQ(CodeOf([&] { Make(); }), ErrorCode::kInvalidArgument);
    spec_ = before;
    return message_;
  };
  EXPECT_THAT(complaint([](KubernetesSpec* spec) { spec->clear_image(); }),
              HasSubstr("kubernetes.image"));
  EXPECT_THAT(complaint([](KubernetesSpec* spec) { spec->clear_volume_claim(); }),
              HasSubstr("kubernetes.volume_claim"));
  EXPECT_THAT(complaint([](KubernetesSpec* spec) { spec->set_mount_path("/elsewhere"); }),
              AllOf(HasSubstr("state_dir"), HasSubstr("/elsewhere")));
  EXPECT_THAT(complaint([](KubernetesSpec* spec) { spec->set_api("http://127.0.0.1:1"); }),
              HasSubstr("https://"));
  EXPECT_THAT(complaint([](KubernetesSpec* spec) { spec->clear_api(); }),
              HasSubstr("kubernetes.api"));
  EXPECT_THAT(complaint([](KubernetesSpec* spec) { spec->clear_namespace_(); }),
              HasSubstr("kubernetes.namespace"));
  const std::filesystem::path pod = directory_.path() / "pod.yaml";
  std::ofstream(pod) << "spec:\n  containers: 1\n";
  EXPECT_THAT(complaint([&](KubernetesSpec* spec) { spec->set_template_file(pod.string()); }),
              HasSubstr("pod.yaml:2:15"));
  spec_.mutable_kubernetes()->set_ca_file("/nowhere/ca.crt");
  EXPECT_EQ(CodeOf([&] { Make(); }), ErrorCode::kNotFound);
}

// Within a pod, address and namespace are where Kubernetes puts them.
TEST_F(KubernetesLauncherTest, APodKnowsItsCluster) {
  const std::string url = server_.url();
  spec_.mutable_kubernetes()->clear_api();
  spec_.mutable_kubernetes()->clear_namespace_();
  setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1", 1);
  setenv("KUBERNETES_SERVICE_PORT", url.substr(url.rfind(':') + 1).c_str(), 1);
  std::ofstream(server_.File("namespace")) << "lab";
  EXPECT_EQ(Make()->Nodes().at(0).liveness, NodeStatus::UP);
  unsetenv("KUBERNETES_SERVICE_HOST");
  unsetenv("KUBERNETES_SERVICE_PORT");
}

}  // namespace
}  // namespace fr
