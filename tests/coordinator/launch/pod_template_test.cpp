#include "coordinator/launch/pod_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"

namespace fr {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

std::string Complaint(const std::string& yaml) {
  try {
    ParsePodTemplate(yaml, "pod.yaml");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  return "";
}

// Values are what Kubernetes' own readers make of them; what stands in quotes is text.
TEST(PodTemplate, KeepsWhatValuesAre) {
  const json expected = json::parse(R"({
    "metadata": {"annotations": {"a": "true", "b": "1"}},
    "spec": {"hostNetwork": true, "priority": 5, "x": 1.5, "y": null, "z": "1e",
             "tolerations": [{"key": "gpu", "operator": "Exists"}]}})");
  EXPECT_EQ(ParsePodTemplate(R"(
apiVersion: v1
kind: PodTemplate
metadata: {annotations: {a: "true", b: '1'}}
spec:
  hostNetwork: true
  priority: 5
  x: 1.5
  y: ~
  z: 1e
  tolerations:
    - {key: gpu, operator: Exists}
)",
                             "pod.yaml"),
            expected);
}

TEST(PodTemplate, AnEmptyFileIsAnEmptyTemplate) {
  EXPECT_EQ(ParsePodTemplate("", "pod.yaml"), json::object());
  EXPECT_EQ(ParsePodTemplate("metadata:\nspec:\n", "pod.yaml"), json::object());
}

// Every mistake is found at once, each with its place.
TEST(PodTemplate, MistakesAreNamedByLine) {
  EXPECT_EQ(Complaint("spec:\n  containers: 5\ntolerations: []\nmetadata:\n  name: x\n"),
            "pod.yaml:2:15: spec.containers: a list is expected\n"
            "pod.yaml:3:1: tolerations: a pod template has no such key: metadata and spec are "
            "expected\n"
            "pod.yaml:5:3: name: a pod template has no such key in metadata");
  EXPECT_EQ(Complaint("spec:\n  a: 1\n  a: 2\n"), "pod.yaml:3:3: a: stands twice");
  EXPECT_EQ(Complaint("spec:\n  volumes:\n    - {emptyDir: {}}\n"),
            "pod.yaml:3:7: volumes: each needs a name");
  EXPECT_THAT(Complaint("spec: {a: [1, 2}\n"), HasSubstr("pod.yaml:1:"));
  EXPECT_THAT(Complaint("- 1\n"), HasSubstr("a section of keys is expected"));
  EXPECT_THAT(Complaint("spec:\n  ? [1]\n  : 2\n"), HasSubstr("pod.yaml:2:"));
}

// Whatever stands in the file, reading it ends.
TEST(PodTemplate, HostileFilesAreRefused) {
  EXPECT_NE(Complaint("spec: " + std::string(200, '[') + std::string(200, ']')), "");
  std::string bomb = "spec:\n  a: &a [1,1,1,1,1,1,1,1,1,1]\n";
  for (char c = 'b'; c < 'j'; ++c) {
    const std::string before = std::string("*") + static_cast<char>(c - 1);
    bomb += std::string("  ") + c + ": &" + c + " [" + before;
    for (int i = 0; i < 9; ++i) bomb += ", " + before;
    bomb += "]\n";
  }
  EXPECT_THAT(Complaint(bomb), HasSubstr("too large"));
  EXPECT_NE(Complaint(std::string(2 << 20, '#')), "");
}

// As kubectl's strategic merge: containers by name, deeply, ours first, what is null goes.
TEST(PodTemplate, MergesByName) {
  const json base = json::parse(R"({"spec": {
    "containers": [{"name": "sidecar"},
                   {"name": "main", "image": "theirs", "env": [{"name": "A", "value": "1"},
                                                               {"name": "B", "value": "2"}],
                    "volumeMounts": [{"name": "v", "mountPath": "/data"}]}],
    "nodeSelector": {"pool": "gpu"}, "hostNetwork": true, "gone": 1}})");
  const json over = json::parse(R"({"spec": {
    "containers": [{"name": "main", "image": "ours", "env": [{"name": "B", "value": "3"}],
                    "command": ["a"],
                    "volumeMounts": [{"name": "v", "mountPath": "/fr"}]}],
    "hostNetwork": false, "gone": null}})");
  EXPECT_EQ(MergePodTemplates(base, over), json::parse(R"({"spec": {
    "containers": [{"name": "main", "image": "ours", "command": ["a"],
                    "env": [{"name": "B", "value": "3"}, {"name": "A", "value": "1"}],
                    "volumeMounts": [{"name": "v", "mountPath": "/fr"},
                                     {"name": "v", "mountPath": "/data"}]},
                   {"name": "sidecar"}],
    "nodeSelector": {"pool": "gpu"}, "hostNetwork": false}})"));
}

// Lists of plain values are replaced: half of two commands is no command.
TEST(PodTemplate, ReplacesOtherLists) {
  EXPECT_EQ(MergePodTemplates(json{{"args", {"a", "b"}}}, json{{"args", {"c", "d"}}}),
            (json{{"args", {"c", "d"}}}));
}

}  // namespace
}  // namespace fr
