"""What dies, and what does not: coordinator, workers, and the curves they leave."""

import json
import os
import signal
import subprocess

import pytest

from cluster import BIN_DIR, Cluster, wait_for

pytestmark = pytest.mark.worker


def points(cluster, job_id, name="train/loss"):
    series = cluster.get(f"/jobs/{job_id}/metrics?names={name}")["series"]
    return dict(zip(series[0]["steps"], series[0]["values"])) if series else {}


def in_state(cluster, job_id, state):
    job = cluster.get(f"/jobs/{job_id}")
    return job if job["state"] == state else None


@pytest.fixture
def long_job(job_file, tmp_path):
    """Forty steps, so that there is time to interfere."""
    path = tmp_path / "job.yaml"
    path.write_text(job_file.read_text().replace("epochs: 1", "epochs: 4"))
    return path


# Killed in the middle of training and started again: the job is there, its workers went on
# meanwhile, and what they could not deliver comes afterwards.
def test_a_killed_coordinator_leaves_no_hole_in_the_curve(empty_cluster, long_job):
    cluster = empty_cluster
    job_id = cluster.submit(long_job)
    wait_for(lambda: len(points(cluster, job_id)) >= 3, "the first points")
    cluster.kill(signal.SIGKILL)
    known = cluster.directory / "state/jobs" / job_id / "attempt-1/worker.log"
    size = known.stat().st_size
    wait_for(lambda: known.stat().st_size > size + 300, "the workers to go on by themselves")
    cluster.start()
    job = cluster.wait_until_ended(job_id)
    assert job["state"] == "COMPLETED", job["reason"]
    assert job["attempt"] == 1 and job["restarts"] == 0
    steps = job["progress"]["total_steps"]
    assert sorted(points(cluster, job_id)) == list(range(1, steps + 1))


# A worker that dies takes its attempt with it; the next one goes on from the last checkpoint.
def test_a_killed_worker_is_made_up_for(empty_cluster, long_job):
    cluster = empty_cluster
    job_id = cluster.submit(long_job)
    wait_for(lambda: cluster.get(f"/jobs/{job_id}/checkpoints")["checkpoints"], "a checkpoint")
    worker = subprocess.run(["pgrep", "-f", f"fr-worker.*{cluster.rpc} --job-id {job_id}"],
                            capture_output=True, text=True, check=True).stdout.split()[-1]
    os.kill(int(worker), signal.SIGKILL)
    job = cluster.wait_until_ended(job_id)
    assert job["state"] == "COMPLETED", job["reason"]
    assert (job["attempt"], job["restarts"]) == (2, 1)
    running = [one["reason"] for one in job["transitions"] if one["to"] == "RUNNING"]
    assert "from the beginning" in running[0] and "from the checkpoint of step" in running[1]
    assert sorted(points(cluster, job_id)) == list(range(1, job["progress"]["total_steps"] + 1))


def test_a_cancelled_job_ends_with_its_processes(empty_cluster, long_job):
    cluster = empty_cluster
    job_id = cluster.submit(long_job)
    wait_for(lambda: points(cluster, job_id), "the first point")
    assert cluster.run("frctl", "cancel", job_id).returncode == 0
    assert cluster.wait_until_ended(job_id)["state"] == "CANCELLED"
    nodes = lambda: json.loads(cluster.run("frctl", "nodes", "-o", "json").stdout)["nodes"]
    wait_for(lambda: nodes()[0]["slots_used"] == 0, "the slot to be free")
    assert subprocess.run(["pgrep", "-f", f"fr-worker.*{cluster.rpc}"], check=False,
                          capture_output=True).returncode == 1


# Paused, a job stops at a checkpoint of the step it was at, and goes on from there.
def test_a_paused_job_goes_on_where_it_stopped(empty_cluster, long_job):
    cluster = empty_cluster
    job_id = cluster.submit(long_job)
    wait_for(lambda: len(points(cluster, job_id)) >= 3, "the first points")
    assert cluster.run("frctl", "pause", job_id).returncode == 0
    job = wait_for(lambda: in_state(cluster, job_id, "PAUSED"), "the pause")
    stopped_at = job["progress"]["step"]
    assert stopped_at < job["progress"]["total_steps"]
    steps = [one["step"] for one in cluster.get(f"/jobs/{job_id}/checkpoints")["checkpoints"]]
    assert steps[-1] == stopped_at
    assert cluster.run("frctl", "resume", job_id).returncode == 0
    job = cluster.wait_until_ended(job_id)
    assert job["state"] == "COMPLETED", job["reason"]
    assert (job["attempt"], job["restarts"]) == (2, 0)
    running = [one["reason"] for one in job["transitions"] if one["to"] == "RUNNING"]
    assert f"from the checkpoint of step {stopped_at}" in running[1]
    assert sorted(points(cluster, job_id)) == list(range(1, job["progress"]["total_steps"] + 1))


@pytest.fixture
def impatient_cluster(tmp_path):
    """Jobs may be stopped for others as soon as they run."""
    cluster = Cluster(tmp_path / "cluster", config="scheduler: {min_run_time: 0s}\n")
    try:
        yield cluster.start()
    finally:
        cluster.stop()


# An elastic job gives a worker up for an urgent one, and trains on with the other: the same global
# batch, the identities split anew.
def test_an_elastic_job_makes_room(impatient_cluster, long_job, job_file):
    cluster = impatient_cluster
    long_job.write_text(long_job.read_text().replace("batch_size: 4", "total_batch_size: 8"))
    elastic = cluster.submit(long_job, "--set", "resources.min_workers=1")
    wait_for(lambda: len(points(cluster, elastic)) >= 3, "the first points")
    urgent = cluster.submit(job_file, "--set", "priority=90", "--set", "resources.workers=1")
    assert cluster.wait_until_ended(urgent)["state"] == "COMPLETED"
    job = cluster.wait_until_ended(elastic)
    assert job["state"] == "COMPLETED", job["reason"]
    assert job["restarts"] == 0 and job["attempt"] >= 2
    plans = cluster.get(f"/jobs/{elastic}/shards")["plans"]
    assert [len(plan["ranges"]) for plan in plans][:2] == [2, 1]
    assert sorted(points(cluster, elastic)) == list(range(1, job["progress"]["total_steps"] + 1))


def standalone(job_file, run_dir, ranks, *arguments):
    root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    return subprocess.run(
        ["mpirun", *root, "--oversubscribe", "--bind-to", "none", "-np", str(ranks),
         BIN_DIR / "fr-worker", "--job", job_file, "--run-dir", run_dir, *arguments],
        capture_output=True, text=True, timeout=300, check=False)


# The same road without a coordinator; continued, it may have another number of ranks.
def test_a_run_without_a_coordinator_continues_at_another_number_of_ranks(job_file, tmp_path):
    text = job_file.read_text().replace("batch_size: 4", "total_batch_size: 8")
    job_file = tmp_path / "job.yaml"
    job_file.write_text(text)
    first = standalone(job_file, tmp_path / "run", 2, "--set", "train.max_steps=5")
    assert first.returncode == 0, first.stderr
    assert "steps 1 to 5" in first.stderr
    second = standalone(job_file, tmp_path / "run", 3)
    assert second.returncode == 0, second.stderr
    assert "from the checkpoint of step 5" in second.stderr
    assert "over 3 ranks" in second.stderr and "steps 6 to 10" in second.stderr
    third = standalone(job_file, tmp_path / "run", 1)
    assert third.returncode == 0, third.stderr


# Without a coordinator mistakes are named the same way, once, and not by every rank.
def test_a_mistake_without_a_coordinator(job_file, tmp_path):
    done = standalone(job_file, tmp_path / "run", 2, "--set", "loss.margin=-1")
    assert done.returncode == 2
    assert done.stderr.count(": loss.margin: ") == 1
