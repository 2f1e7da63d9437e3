"""What a team does with the queue: priorities, users, drained nodes, jobs that stop and go on."""

import json
import os
import pwd
import subprocess

import pytest

from cluster import BIN_DIR, wait_for
from fake_cluster import FakeCluster, reasons

LONG = 10_000_000
ME = pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture
def team(tmp_path):
    """Two slots; whoever is asked to make room has run long enough."""
    cluster = FakeCluster(tmp_path / "cluster", slots=2, config="""\
scheduler: {min_run_time: 0s}
limits: {max_jobs: 3}
""")
    try:
        yield cluster.start()
    finally:
        cluster.stop()


def listed(cluster, *arguments):
    """Ids of `frctl jobs`, latest first."""
    done = cluster.run("frctl", "jobs", "-o", "json", *arguments)
    assert done.returncode == 0, done.stderr
    return [job["id"] for job in json.loads(done.stdout)["jobs"]]


def states(job):
    return [transition["to"] for transition in job["transitions"]]


# Three jobs want both slots: the first has them, then the one of higher priority, though it came
# last.
def test_the_higher_priority_goes_first(team):
    fixed = ("--set", "resources.preemptible=false")
    first = team.submit_job("first", LONG)
    team.wait_until_it_trains(first)
    later = team.submit_job("later", LONG, *fixed)
    urgent = team.submit_job("urgent", 20, "--set", "priority=55", *fixed)
    place = wait_for(lambda: team.get(f"/jobs/{later}")["queue_position"] == 2
                     and team.get(f"/jobs/{urgent}"), "the order of the queue")
    assert place["queue_position"] == 1 and "needs 2 slots, 0 are free" in place["reason"]
    assert f"behind {urgent}" in team.get(f"/jobs/{later}")["reason"]
    assert "#2: needs 2 slots" in team.run("frctl", "jobs").stdout
    team.run("frctl", "cancel", first)
    assert team.wait_until_ended(urgent)["state"] == "COMPLETED"
    team.wait_until_it_trains(later)
    assert (team.get(f"/jobs/{later}")["started_ms"] >=
            team.get(f"/jobs/{urgent}")["ended_ms"])


# A job of low priority stops at a checkpoint of the step it is at, and later goes on from there: no
# step is made twice, none is missing.
def test_a_job_is_stopped_at_a_checkpoint_for_a_higher_priority(team):
    low = team.submit_job("low", 400, "--set", "priority=20")
    team.wait_until_it_trains(low, beyond=5)
    high = team.submit_job("high", 20, "--set", "priority=80")
    assert team.wait_until_ended(high)["state"] == "COMPLETED"
    job = team.wait_until_ended(low)
    assert states(job)[:6] == [
        "PENDING", "STARTING", "RUNNING", "PREEMPTED", "PENDING", "STARTING"], reasons(job)
    assert (job["state"], job["preemptions"], job["restarts"]) == ("COMPLETED", 1, 0)
    assert f"{high} (priority 80) needs 2 slots" in reasons(job)[3]
    assert team.points(low) == list(range(1, 401))
    starts = [event for event in team.journal(low) if event[3] == "start"]
    assert [attempt for attempt, *_ in starts] == [1, 1, 2, 2]
    assert "overlap" not in [event for *_, event in team.journal(low)]


# An elastic job gives up what another needs, and takes it back once that has ended. Each number of
# workers has its own shard plan.
def test_an_elastic_job_shrinks_and_grows(team):
    elastic = team.submit_job("elastic", LONG, "--set", "resources.min_workers=1")
    team.wait_until_it_trains(elastic, beyond=5)
    other = team.submit_job("other", 400, "--set", "priority=60", workers=1)
    team.wait_until_it_trains(other)
    small = team.wait_for_state(elastic, "RUNNING")
    assert small["workers_now"] == 1 and small["restarts"] == 0, reasons(small)
    assert team.wait_until_ended(other)["state"] == "COMPLETED"
    wait_for(lambda: team.get(f"/jobs/{elastic}")["workers_now"] == 2, "the growth")
    team.wait_for_state(elastic, "RUNNING")
    shards = wait_for(lambda: (text := team.run("frctl", "shards", elastic).stdout)
                      and text.startswith("plan 3") and text, "the third plan")
    assert "1,000 identities on 2 ranks" in shards
    assert "earlier plan 2: 1,000 identities on 1 rank" in shards
    assert "overlap" not in [event for *_, event in team.journal(elastic)]


# A job belongs to who submitted it; each may have three that have not ended.
def test_jobs_have_owners_and_owners_limits(team):
    jobs = [team.submit_job(f"mine-{i}", LONG) for i in range(3)]
    refused = team.run("fr-submit", team.job_file("mine-4", LONG), "--remote-paths")
    assert refused.returncode == 3
    assert f"{ME} has 3 jobs that have not ended, and may have 3" in refused.stderr
    assert listed(team, "--user", ME) == jobs[::-1]
    assert listed(team, "--user", "somebody") == []
    assert listed(team, "--state", "cancelled") == []
    team.run("frctl", "cancel", jobs[2])
    assert listed(team, "--state", "cancelled") == [jobs[2]]
    assert team.submit_job("mine-5", LONG) == "job-4"
    [user] = team.get("/users")["users"]
    wait_for(lambda: team.get("/users")["users"][0]["workers"] == 2, "the first to run")
    assert (user["name"], user["max_jobs"]) == (ME, 3)
    row = team.run("frctl", "users").stdout.splitlines()[1].split()
    assert row[0] == ME and row[3] == "3"


# Who has used nothing lately goes before who has, although later in the queue.
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can submit as somebody else")
def test_another_user_has_a_fair_share(team):
    first = team.submit_job("first", LONG)
    team.wait_until_it_trains(first)
    mine = team.submit_job("mine", LONG)
    path = team.job_file("theirs", LONG)
    os.chmod(path, 0o644)
    try:
        done = subprocess.run([BIN_DIR / "fr-submit", "--remote-paths", "/dev/stdin"],
                              stdin=path.open(), capture_output=True, text=True, timeout=60,
                              env=team.environment(), cwd="/", user="nobody", check=False)
    except PermissionError as error:
        pytest.skip(f"nobody may not run fr-submit: {error}")
    assert done.returncode == 0, done.stderr
    theirs = done.stdout.strip()
    assert team.get(f"/jobs/{theirs}")["owner"] == "nobody"
    wait_for(lambda: team.get(f"/jobs/{theirs}")["queue_position"] == 1
             and team.get(f"/jobs/{mine}")["queue_position"] == 2, "their turn before mine")


def test_a_job_that_could_never_start_is_refused_with_the_numbers(team):
    for change, words in (
            ("resources.workers=40", "needs 40 slots, 1 node has 2"),
            ("resources.labels=[a100]", "needs label a100: no node has it"),
            ("resources.memory_gib=100000", "a worker needs 97.7 TiB of memory"),
            ("resources.device=gpu", "needs 2 GPUs, 1 node has 0")):
        done = team.run("fr-submit", team.job_file("large", 10), "--remote-paths", "--set", change)
        assert done.returncode == 2, change
        assert f"this job could never start here: {words}" in done.stderr, change
        assert done.stdout == ""
    assert listed(team) == []


# A drain empties a node at checkpoints, and is kept over the coordinator's death.
def test_a_drained_node_gets_no_workers(team):
    job_id = team.submit_job("long", LONG)
    team.wait_until_it_trains(job_id, beyond=5)
    done = team.run("frctl", "drain", "localhost", "--evict", "--reason", "new disks")
    assert done.returncode == 0 and job_id in done.stderr, done.stderr
    job = team.wait_for_state(job_id, "RESTARTING")
    assert "node localhost is drained: new disks" in job["reason"] and job["restarts"] == 0
    step = job["progress"]["step"]
    team.kill()
    team.start()
    assert "up, drained" in team.run("frctl", "nodes").stdout
    wait_for(lambda: "no node is up" in team.get(f"/jobs/{job_id}")["reason"],
             "the reason why it waits")
    assert team.run("frctl", "undrain", "localhost").returncode == 0
    team.wait_until_it_trains(job_id, beyond=step)
    assert team.points(job_id)[: step + 1] == list(range(1, step + 2))


def test_a_job_in_the_queue_can_be_paused(team):
    first = team.submit_job("first", LONG)
    team.wait_until_it_trains(first)
    waiting = team.submit_job("waiting", 10)
    assert team.run("frctl", "pause", waiting, "--reason", "not yet").returncode == 0
    job = team.wait_for_state(waiting, "PAUSED")
    assert "not yet" in job["reason"]
    team.run("frctl", "cancel", first)
    team.wait_for_state(first, "CANCELLED")
    wait_for(lambda: team.get("/nodes")["nodes"][0]["slots_used"] == 0, "free slots")
    assert team.get(f"/jobs/{waiting}")["state"] == "PAUSED"
    assert team.run("frctl", "resume", waiting).returncode == 0
    assert team.wait_until_ended(waiting)["state"] == "COMPLETED"


def test_wrong_names_are_named(team):
    for arguments, code, words in (
            (["drain", "node9"], 1, "there is no node 'node9'; there are localhost"),
            (["undrain", "node9"], 1, "there is no node 'node9'"),
            (["pause", "job-9"], 1, "there is no job 'job-9'"),
            (["resume", "latest"], 1, "there are no jobs"),
            (["jobs", "--state", "runing"], 2, "none of PENDING"),
            (["drain"], 2, "NODE is required")):
        done = team.run("frctl", *arguments)
        assert (done.returncode, done.stdout) == (code, ""), arguments
        assert words in done.stderr, arguments
