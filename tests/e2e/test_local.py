"""Launcher local: a coordinator, real mpirun, and workers that only pretend to train."""

import os
import signal

import pytest

from cluster import wait_for
from fake_cluster import FakeCluster, reasons


@pytest.fixture
def local(tmp_path):
    cluster = FakeCluster(tmp_path / "cluster")
    try:
        yield cluster.start()
    finally:
        cluster.stop()


# Two ranks that end well: every step is known, their words are in the log, nothing is left.
def test_a_job_completes(local):
    job_id = local.submit_job("tiny", steps=12)
    job = local.wait_until_ended(job_id)
    assert (job["state"], job["attempt"]) == ("COMPLETED", 1), reasons(job)
    wait_for(lambda: not local.processes(), "the end of the attempt's processes")
    assert sorted(entry[::3] + entry[1:2] for entry in local.journal(job_id)) == [
        (1, "end", 0), (1, "end", 1), (1, "start", 0), (1, "start", 1)]
    assert local.points(job_id) == list(range(1, 13))
    assert "fake worker: attempt 1, 2 ranks, from step 0" in local.run("frctl", "logs", job_id).stdout


# A crash at step 7: the next attempt goes on from step 5, never beside the first, and the curve has
# no hole. Each attempt has its own log.
def test_a_crashed_job_goes_on_from_its_checkpoint(local):
    job_id = local.submit_job("crash-once-at-7", steps=12)
    job = local.wait_until_ended(job_id)
    assert (job["state"], job["attempt"], job["restarts"]) == ("COMPLETED", 2, 1), reasons(job)
    assert any("exit status 3" in reason for reason in reasons(job)), reasons(job)
    assert "overlap" not in [event for *_, event in local.journal(job_id)]
    assert local.points(job_id) == list(range(1, 13))
    logs = [local.run("frctl", "logs", job_id, "--attempt", attempt).stdout for attempt in (1, 2)]
    assert "attempt 1, 2 ranks, from step 0" in logs[0]
    assert "attempt 2, 2 ranks, from step 5" in logs[1]
    assert local.run("frctl", "logs", job_id).stdout == logs[1]


# Two crashes are more than one restart allows. What mpirun said is the reason, and its command line
# is there to be tried by hand.
def test_a_job_that_always_crashes_fails(local):
    job_id = local.submit_job("crash-at-3", steps=12)
    job = local.wait_until_ended(job_id)
    assert (job["state"], job["attempt"], job["restarts"]) == ("FAILED", 2, 1), reasons(job)
    assert "exit status 3" in job["reason"]
    command = (local.directory_of(job_id) / "attempt-2/command").read_text()
    assert command.startswith("'mpirun' ") and f"'{job_id}'" in command


# Workers that make no step and heed no signal are killed, every one of them.
def test_workers_that_hang_are_killed(local):
    job_id = local.submit_job("hang-at-7", steps=12, max_restarts=0, stall_timeout="5s")
    local.wait_until_it_trains(job_id, beyond=5)
    for pid in [entry[2] for entry in local.journal(job_id)]:
        os.kill(pid, signal.SIGSTOP)
    job = local.wait_until_ended(job_id)
    assert job["state"] == "FAILED" and "no step for 5 s" in job["reason"], reasons(job)
    wait_for(lambda: not local.processes(), "the end of the attempt's processes")


# So are those of a cancelled job.
def test_a_cancelled_job_leaves_nothing(local):
    job_id = local.submit_job("long", steps=10_000_000)
    local.wait_until_it_trains(job_id)
    for pid in [entry[2] for entry in local.journal(job_id)]:
        os.kill(pid, signal.SIGSTOP)
    assert local.run("frctl", "cancel", job_id, "--reason", "enough").returncode == 0
    job = local.wait_until_ended(job_id)
    assert job["state"] == "CANCELLED" and "enough" in job["reason"]
    wait_for(lambda: not local.processes(), "the end of the attempt's processes")


# The coordinator dies, and the attempt ends meanwhile, badly: its successor reads how.
def test_an_end_in_the_coordinators_absence_is_read_afterwards(local):
    job_id = local.submit_job("long", steps=10_000_000)
    local.wait_until_it_trains(job_id, beyond=5)
    local.kill(signal.SIGKILL)
    [killed] = [pid for _, rank, pid, _ in local.journal(job_id) if rank == 1]
    os.kill(killed, signal.SIGKILL)
    status = local.directory_of(job_id) / "attempt-1/exit_status"
    wait_for(status.exists, "the attempt's end")
    local.start()
    wait_for(lambda: local.get(f"/jobs/{job_id}")["attempt"] == 2, "the next attempt")
    local.wait_until_it_trains(job_id, beyond=10)
    job = local.get(f"/jobs/{job_id}")
    assert any("rank 1 on localhost ended by signal 9" in reason for reason in reasons(job)), (
        reasons(job))
    assert "overlap" not in [event for *_, event in local.journal(job_id)]
    local.run("frctl", "cancel", job_id)


# Machines that this launcher cannot reach are refused at the start, with the remedy.
def test_other_machines_are_refused(tmp_path):
    cluster = FakeCluster(tmp_path / "cluster")
    text = cluster.config.read_text()
    cluster.config.write_text(text.replace("name: localhost", "name: node1"))
    refused = cluster.run("fr-coordinator", "--config", cluster.config)
    assert refused.returncode == 2, refused.stderr
    assert "node1" in refused.stderr and "launcher: hosts" in refused.stderr
