"""k8s/: what `kubectl apply -k` would send, held to Kubernetes' own schemas and to the programs."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from cluster import BIN_DIR, Cluster
from kube_api import KubeApi

K8S = Path(__file__).resolve().parents[2] / "k8s"
NAME = "app.kubernetes.io/name"


def why_not():
    """Why nothing can be built here; nothing if it can."""
    if not shutil.which("kubectl"):
        return "kubectl is not here (kubernetes.io has it; Debian 12's is too old)"
    told = subprocess.run(["kubectl", "version", "--client", "-o", "json"], capture_output=True,
                          text=True, check=False)
    version = json.loads(told.stdout or "{}").get("clientVersion", {}).get("minor", "0")
    minor = int(re.match(r"\d*", version)[0] or 0)
    # Its kustomize is of 5.0 since then.
    return f"kubectl 1.{minor} is older than 1.27" if minor < 27 else None


def built(directory):
    """The objects of a kustomization."""
    if why := why_not():
        pytest.skip(f"kubectl kustomize: {why}")
    done = subprocess.run(["kubectl", "kustomize", directory], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="module", params=["base", "overlays/example"])
def objects(request):
    return built(K8S / request.param)


def one(objects, kind, name=None):
    found = [each for each in objects
             if each["kind"] == kind and name in (None, each["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} of {kind} {name or ''}"
    return found[0]


def test_every_object_fits_its_schema(objects):
    assert {each["kind"] for each in objects} >= {
        "ConfigMap", "NetworkPolicy", "Role", "RoleBinding", "Service", "ServiceAccount",
        "StatefulSet"}
    for each in objects:
        kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)


# Whoever points at somebody else points at somebody who is there.
def test_labels_ports_and_names_meet(objects):
    stateful = one(objects, "StatefulSet")
    pod = stateful["spec"]["template"]
    labels = pod["metadata"]["labels"]
    assert stateful["spec"]["selector"]["matchLabels"].items() <= labels.items()
    [container] = pod["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    services = [each for each in objects if each["kind"] == "Service"]
    assert stateful["spec"]["serviceName"] in {each["metadata"]["name"] for each in services}
    for service in services:
        assert service["spec"]["selector"].items() <= labels.items()
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] in ports
    account = one(objects, "ServiceAccount")["metadata"]["name"]
    binding = one(objects, "RoleBinding")
    assert pod["spec"]["serviceAccountName"] == account
    assert [subject["name"] for subject in binding["subjects"]] == [account]
    assert binding["roleRef"]["name"] == one(objects, "Role")["metadata"]["name"]
    [config] = [volume["configMap"]["name"] for volume in pod["spec"]["volumes"]
                if "configMap" in volume]
    one(objects, "ConfigMap", config)


# The pod may do little, and nothing beyond its volume.
def test_the_coordinator_is_confined(objects):
    pod = one(objects, "StatefulSet")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    [container] = pod["containers"]
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    policy = one(objects, "NetworkPolicy", "fr-coordinator")["spec"]
    rpc = [rule for rule in policy["ingress"] if {"protocol": "TCP", "port": "rpc"} in rule["ports"]]
    [rule] = rpc
    assert {"podSelector": {"matchLabels": {NAME: "fr-worker"}}} in rule["from"]
    for role in (each for each in objects if each["kind"] in ("Role", "ClusterRole")):
        assert role["kind"] == "Role"
        assert all("*" not in rule[key] for rule in role["rules"]
                   for key in ("apiGroups", "resources", "verbs"))


# The program takes the ConfigMap as it is, but for the addresses that only a cluster has.
def test_the_coordinator_takes_its_configuration(objects, tmp_path):
    data = one(objects, "ConfigMap")["data"]
    (tmp_path / "files").mkdir()
    for name, text in data.items():
        (tmp_path / "files" / name).write_text(text)
    config = yaml.safe_load(data["coordinator.yaml"])
    container = one(objects, "StatefulSet")["spec"]["template"]["spec"]["containers"][0]
    [mount] = [each["mountPath"] for each in container["volumeMounts"] if each["name"] == "shared"]
    assert config["state_dir"].startswith(mount) and config["kubernetes"]["mount_path"] == mount
    claim = one(objects, "StatefulSet")["spec"]["volumeClaimTemplates"][0]["metadata"]["name"]
    assert config["kubernetes"]["volume_claim"] == f"{claim}-fr-coordinator-0"
    assert config["advertise"] == "tcp://fr-coordinator:7070"
    assert config["kubernetes"]["image"] == container["image"]

    cluster = Cluster(tmp_path / "cluster")
    api = KubeApi(tmp_path / "kube").start()
    config |= {"state_dir": str(tmp_path / "cluster/state"), "rpc": cluster.rpc,
               "http": cluster.url.removeprefix("http://"), "worker": str(BIN_DIR / "fr-fake-worker")}
    config["kubernetes"] |= {**api.config(tmp_path), "image": config["kubernetes"]["image"]}
    if "template_file" in config["kubernetes"]:
        config["kubernetes"]["template_file"] = str(
            tmp_path / "files" / Path(config["kubernetes"]["template_file"]).name)
    cluster.config.write_text(yaml.safe_dump(config))
    try:
        cluster.start()
        assert cluster.get("/nodes")["nodes"][0]["liveness"] == "UP"
    finally:
        cluster.stop()
        api.stop()
