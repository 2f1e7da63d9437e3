"""fr-submit and frctl as people and scripts use them."""

import json
import os
import re
import time
from pathlib import Path

import pytest

from cluster import FAKE_NVML, Cluster, wait_for

ROOT = Path(__file__).resolve().parents[2]

JOB = """\
name: by-hand
resources: {{workers: 2}}
data:
  train: {train}
  validation: [lfw]
  batch_size: 32
loss:
  margin: 0.5
train: {{epochs: 2}}
"""


@pytest.fixture
def write_job(tmp_path, stand_in_faces):
    def write(text=JOB):
        path = tmp_path / "job.yaml"
        path.write_text(text.format(train=stand_in_faces))
        return path

    return write


@pytest.fixture
def no_coordinator(tmp_path):
    """The commands, with an address at which nobody listens."""
    return Cluster(tmp_path / "nowhere")


# Each mistake is named by file, line, column and key, with what would be right; nothing goes to
# standard output and no coordinator is needed.
@pytest.mark.parametrize("wrong, right, line, key, remedy", [
    ("  batch_sise: 32", "  batch_size: 32", 6, "batch_sise", "batch_size"),
    ("  batch_size: many", "  batch_size: 32", 6, "data.batch_size", "whole number"),
    ("  margin: -0.5", "  margin: 0.5", 8, "loss.margin", "0"),
    ("  train: /no/such/directory", "  train: {train}", 4, "data.train", "/no/such/directory"),
])
def test_a_mistake_is_named_by_place_and_remedy(
        no_coordinator, write_job, wrong, right, line, key, remedy):
    path = write_job(JOB.replace(right, wrong))
    done = no_coordinator.run("fr-submit", path)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    named = re.search(rf"^{re.escape(str(path))}:{line}:\d+: (.*)$", done.stderr, re.MULTILINE)
    assert named, done.stderr
    assert key in named[1] and remedy in named[1]
    assert len(done.stderr.splitlines()) == 1


def test_all_mistakes_are_named_in_one_go(no_coordinator, write_job):
    path = write_job(JOB.replace("margin: 0.5", "margin: -1").replace("epochs: 2", "epochs: two"))
    done = no_coordinator.run("fr-submit", path, "--set", "optimizer.lr=fast")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 3, done.stderr
    for key in ("loss.margin", "train.epochs", "optimizer.lr"):
        assert any(key in line for line in lines), key


def test_a_file_that_is_not_there_is_an_error_without_a_trace(no_coordinator, tmp_path):
    done = no_coordinator.run("fr-submit", tmp_path / "none.yaml")
    assert done.returncode in (1, 2)
    assert "none.yaml" in done.stderr and done.stdout == ""


# The plan is printed without a coordinator: total batch, steps, each rank's range.
def test_a_dry_run_shows_the_plan(no_coordinator, write_job):
    done = no_coordinator.run("fr-submit", write_job(), "--dry-run")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    for part in ("64 images per step", "85,742 identities", "1,000 images", "30: 2 epochs of 15",
                 "rank 0: identities [0, 42,871)", "rank 1: identities [42,871, 85,742)"):
        assert part in done.stderr, done.stderr


# The same, and what it takes: needs neither the coordinator nor the data.
def test_plan_says_what_a_job_will_need(no_coordinator, write_job):
    path = write_job()
    here = no_coordinator.run("frctl", "plan", path)
    assert here.returncode == 0, here.stderr
    for part in ("85,742 identities", "30: 2 epochs of 15", "about", "<- the most", "a step"):
        assert part in here.stdout, here.stdout
    away = no_coordinator.run("frctl", "plan", path, "--set", "data.train=/not/here", "-o", "json",
                              "--identities", "1000", "--images", "64000")
    assert away.returncode == 0, away.stderr
    plan = json.loads(away.stdout)
    assert plan["steps_per_epoch"] == 1000 and plan["identities"] == 1000
    assert plan["memory_bytes"] == sum(item["bytes"] for item in plan["memory"]) > 100 << 20
    assert plan["seconds"]["step"] > 0
    unknown = no_coordinator.run("frctl", "plan", path, "--set", "data.train=/not/here")
    assert unknown.returncode == 0 and "unknown" in unknown.stdout


# Without a coordinator a GPU's size is the machine file's, or not known; a job still has its plan.
def test_plan_counts_what_lies_on_a_gpu(no_coordinator, write_job):
    gpu = ("frctl", "plan", write_job(), "--set", "resources.device=gpu")
    unknown = no_coordinator.run(*gpu)
    assert unknown.returncode == 0, unknown.stderr
    for part in ("of each worker's GPU", "NCCL's buffers (an allowance)", "of its node for each",
                 "gpu_memory_gib in a --machine file", "a processor's rates"):
        assert part in unknown.stdout, unknown.stdout
    h100 = ROOT / "configs/machines/h100.yaml"
    fits = no_coordinator.run(*gpu, "--machine", h100)
    assert "has 79.0 GiB: it fits" in fits.stdout, fits.stdout
    plan = json.loads(no_coordinator.run(*gpu, "--machine", h100, "-o", "json").stdout)["gpu"]
    assert plan["memory_bytes"] == sum(item["bytes"] for item in plan["memory"])
    assert plan["available_bytes"] == 79 << 30 and plan["fits"] is True


# Of its two GPUs the smaller one counts.
def test_plan_asks_the_coordinator_how_large_its_gpus_are(gpu_cluster, write_job):
    plan = gpu_cluster.run("frctl", "plan", write_job(), "--set", "resources.device=gpu")
    assert plan.returncode == 0, plan.stderr
    assert "NVIDIA A100-SXM4-40GB of localhost has 40.0 GiB: it fits" in plan.stdout, plan.stdout


def test_plan_takes_another_machine_and_names_mistakes_in_its_file(no_coordinator, write_job,
                                                                   tmp_path):
    machine = tmp_path / "machine.yaml"
    machine.write_text("name: a slow one\nbackbone_fp32: 0.001\n")
    slow = no_coordinator.run("frctl", "plan", write_job(), "--machine", machine)
    assert slow.returncode == 0 and "a slow one" in slow.stdout, slow.stderr
    machine.write_text("backbone_fp23: 1\n")
    wrong = no_coordinator.run("frctl", "plan", write_job(), "--machine", machine)
    assert wrong.returncode == 2 and "machine.yaml:1:1: backbone_fp23" in wrong.stderr


def test_an_absent_coordinator_is_exit_code_3(no_coordinator, write_job):
    for command in (("fr-submit", write_job()), ("frctl", "jobs"), ("frctl", "watch", "1"),
                    ("frctl", "logs", "-f", "1")):
        done = no_coordinator.run(*command, "--timeout", "0.5")
        assert done.returncode == 3, (command, done.stderr)
        assert done.stdout == ""
        assert no_coordinator.rpc in done.stderr


def test_a_wrong_command_line_is_exit_code_2(no_coordinator):
    for command in (("fr-submit",), ("frctl",), ("frctl", "dance"), ("frctl", "jobs", "-o", "xml"),
                    ("frctl", "show"), ("frctl", "plan"), ("frctl", "show", "my-job"), ("frctl", "jobs", "--limit", "0")):
        done = no_coordinator.run(*command)
        assert done.returncode == 2, (command, done.stderr)
        assert done.stderr.strip(), command


def test_help_and_version_need_no_coordinator(no_coordinator):
    for program in ("fr-submit", "frctl"):
        assert "Exit codes" in no_coordinator.run(program, "--help").stdout
        version = no_coordinator.run(program, "--version")
        assert version.returncode == 0
        if "FR_VERSION" in os.environ:
            assert version.stdout.strip() == f"{program} {os.environ['FR_VERSION']}"


def test_lists_of_a_coordinator_without_jobs(cluster):
    empty = cluster.run("frctl", "jobs")
    assert (empty.returncode, empty.stdout) == (0, "")
    assert "fr-submit" in empty.stderr
    assert json.loads(cluster.run("frctl", "jobs", "-o", "json").stdout) == {
        "jobs": [], "more": False, "counts": {}}
    nodes = json.loads(cluster.run("frctl", "nodes", "-o", "json").stdout)["nodes"]
    assert [(node["name"], node["slots"]) for node in nodes] == [("localhost", 4)]
    assert "localhost" in cluster.run("frctl", "nodes").stdout
    latest = cluster.run("frctl", "show", "latest")
    assert latest.returncode == 1 and "no jobs" in latest.stderr


# What the machine's driver says of its GPUs is in the table, in JSON, and for Prometheus.
def test_gpus_are_found_and_shown(gpu_cluster):
    table = gpu_cluster.run("frctl", "nodes").stdout
    assert "0/2  1 x NVIDIA H100 80GB HBM3, 1 x NVIDIA A100-SXM4-40GB" in table, table
    node, = json.loads(gpu_cluster.run("frctl", "nodes", "-o", "json").stdout)["nodes"]
    assert node["gpus"] == 2
    assert node["gpu_list"] == [
        {"model": "NVIDIA H100 80GB HBM3", "memory_bytes": 85520809984},
        {"model": "NVIDIA A100-SXM4-40GB", "memory_bytes": 40 << 30}]
    over_http, = gpu_cluster.get("/nodes")["nodes"]
    # The coordinator may have looked at its nodes again in between.
    assert over_http.pop("last_seen_ms") >= node.pop("last_seen_ms")
    assert over_http == node
    _, _, page = gpu_cluster.request("/metrics")
    assert ('fr_node_gpu_memory_bytes{node="localhost",gpu="1",model="NVIDIA A100-SXM4-40GB"} '
            '42949672960\n') in page.decode()


# A driver that does not work is said once, in the log; the machine has no GPUs then.
def test_a_driver_that_fails_is_named_in_the_log(tmp_path, monkeypatch):
    monkeypatch.setenv("FR_NVML_LIBRARY", str(FAKE_NVML))
    monkeypatch.setenv("FR_FAKE_NVML", "no-driver")
    cluster = Cluster(tmp_path / "cluster")
    try:
        cluster.start()
        assert cluster.get("/nodes")["nodes"][0]["gpus"] == 0
        assert cluster.log.read_text().count("nvmlInit_v2: Driver Not Loaded") == 1
    finally:
        cluster.stop()


def test_a_job_that_is_not_there_is_exit_code_1(cluster):
    for command in ("show", "watch", "logs", "metrics", "checkpoints", "shards", "cancel"):
        done = cluster.run("frctl", command, "job-999")
        assert done.returncode == 1, (command, done.stderr)
        assert "job-999" in done.stderr and done.stdout == ""
    for command in ("pin", "unpin"):
        for step in ("10", "latest"):
            done = cluster.run("frctl", command, "job-999", step)
            assert done.returncode == 1, (command, done.stderr)
            assert "job-999" in done.stderr


@pytest.fixture
def queued_job(cluster, write_job):
    """A job that wants more workers than its user may have: it stays in the queue."""
    path = write_job(JOB.replace("workers: 2", "workers: 3"))
    done = cluster.run("fr-submit", path, "--set", "name=queued", "--set", "priority=70")
    assert done.returncode == 0, done.stderr
    # The id, alone.
    assert re.fullmatch(r"job-\d+\n", done.stdout)
    return done.stdout.strip()


def test_a_submitted_job_is_listed_shown_and_cancelled(cluster, queued_job):
    number = queued_job.removeprefix("job-")
    table = cluster.run("frctl", "jobs").stdout.splitlines()
    assert table[0].split()[:3] == ["JOB", "NAME", "STATE"]
    assert table[1].split()[:3] == [queued_job, "queued", "PENDING"]
    listed = json.loads(cluster.run("frctl", "jobs", "-o", "json").stdout)["jobs"][0]
    assert (listed["id"], listed["priority"], listed["workers"]) == (queued_job, 70, 3)
    for name in (queued_job, number, "latest"):
        shown = json.loads(cluster.run("frctl", "show", name, "-o", "json").stdout)
        assert shown["id"] == queued_job
        assert shown["spec"]["model"]["network"] == "r50"  # a default, filled in
    assert "PENDING" in cluster.run("frctl", "show", number).stdout

    cancelled = cluster.run("frctl", "cancel", number, "--reason", "not wanted <b>any</b> more")
    assert cancelled.returncode == 0, cancelled.stderr
    job = cluster.wait_until_ended(queued_job)
    assert job["state"] == "CANCELLED"
    assert "not wanted <b>any</b> more" in job["reason"]
    watched = cluster.run("frctl", "watch", number)
    assert watched.returncode == 1
    assert "cancelled" in watched.stderr and "not wanted" in watched.stderr


# What a job has not made yet is an empty list, said in words to people.
def test_listings_of_a_job_that_has_not_started(cluster, queued_job):
    for command, key in (("checkpoints", "checkpoints"), ("shards", "plans"), ("metrics", "series")):
        as_json = cluster.run("frctl", command, queued_job, "-o", "json")
        assert json.loads(as_json.stdout) == {key: []}, as_json.stderr
        assert cluster.run("frctl", command, queued_job).returncode == 0
    unknown = cluster.run("frctl", "metrics", queued_job, "--name", "train/los")
    assert unknown.returncode == 1 and "train/los" in unknown.stderr


# Whoever waits for a job learns of its end, and survives the coordinator's absence meanwhile.
def test_waiting_survives_a_restart_of_the_coordinator(cluster, write_job):
    import subprocess
    from cluster import BIN_DIR
    path = write_job(JOB.replace("workers: 2", "workers: 3"))
    waiting = subprocess.Popen(
        [BIN_DIR / "fr-submit", path, "--follow", "--timeout", "1"], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=cluster.environment())
    try:
        job_id = waiting.stdout.readline().strip()
        cluster.kill()
        wait_for(lambda: "unreachable" in waiting.stderr.readline(), "the word of its absence")
        cluster.start()
        assert cluster.run("frctl", "cancel", job_id).returncode == 0
        _, rest = waiting.communicate(timeout=60)
    finally:
        waiting.kill()
    assert waiting.returncode == 1
    assert "reachable again" in rest and f"{job_id} cancelled" in rest


@pytest.mark.worker
def test_a_job_is_followed_to_its_end(cluster, job_file):
    done = cluster.run("fr-submit", job_file, "--follow", timeout=400)
    assert done.returncode == 0, done.stderr
    job_id = done.stdout.strip()
    assert f"{job_id} completed" in done.stderr and "synth" in done.stderr

    metrics = cluster.run("frctl", "metrics", job_id)
    assert "train/loss" in metrics.stdout and "val/synth/accuracy" in metrics.stdout
    points = cluster.run("frctl", "metrics", job_id, "--name", "train/loss", "-o", "csv").stdout
    series = json.loads(cluster.run(
        "frctl", "metrics", job_id, "--name", "train/loss", "-o", "json").stdout)["series"][0]
    rows = [line.split(",") for line in points.splitlines()]
    assert rows[0] == ["metric", "step", "value", "time_ms"]
    assert [(int(step), float(value)) for _, step, value, _ in rows[1:]] == list(
        zip(series["steps"], series["values"]))

    checkpoints = json.loads(
        cluster.run("frctl", "checkpoints", job_id, "-o", "json").stdout)["checkpoints"]
    assert checkpoints[-1]["step"] == series["steps"][-1]
    check_pins(cluster, job_id, checkpoints)
    shards = cluster.run("frctl", "shards", job_id).stdout.splitlines()
    assert "7 identities on 2 ranks" in shards[0]
    assert [line.split()[2:4] for line in shards[2:4]] == [["0", "4"], ["4", "7"]]
    assert cluster.run("frctl", "logs", "-f", job_id).stdout.strip()
    assert cluster.run("frctl", "watch", job_id).returncode == 0


def check_pins(cluster, job_id, checkpoints):
    """Pinned and unpinned by step and as the latest; what cannot be is refused."""
    def pinned():
        listed = json.loads(cluster.run("frctl", "checkpoints", job_id, "-o", "json").stdout)
        return [one["step"] for one in listed["checkpoints"] if one["pinned"]]

    latest = checkpoints[-1]["step"]
    assert pinned() == []
    done = cluster.run("frctl", "pin", job_id, "latest")
    assert done.returncode == 0 and done.stdout == "" and f"step {latest}" in done.stderr
    assert pinned() == [latest]
    table = cluster.run("frctl", "checkpoints", job_id).stdout.splitlines()
    assert "PINNED" in table[0] and " yes " in table[-1]
    done = cluster.run("frctl", "unpin", job_id, latest)
    assert done.returncode == 0 and "stays while" in done.stderr
    assert pinned() == []
    missing = cluster.run("frctl", "pin", job_id, 999)
    assert missing.returncode == 1 and f"it has {checkpoints[0]['step']}" in missing.stderr
    assert cluster.run("frctl", "pin", job_id, "last").returncode == 2


# What only the workers can see fails the job, with the reason.
@pytest.mark.worker
def test_a_truncated_record_file_fails_the_job_with_its_name(cluster, job_file, faces, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in faces.iterdir():
        content = path.read_bytes()
        (broken / path.name).write_bytes(
            content[:len(content) // 2] if path.name == "train.rec" else content)
    done = cluster.run("fr-submit", job_file, "--set", f"data.train={broken}", "--wait")
    assert done.returncode == 1
    assert "failed" in done.stderr and "train.rec" in done.stderr
    assert json.loads(cluster.run("frctl", "show", "latest", "-o", "json").stdout)["restarts"] == 0
