"""Launcher hosts: a coordinator, four machines, real mpirun, ssh and sshd between them, and workers
that only pretend to train."""

import os
import re
import signal
from pathlib import Path

import pytest

from cluster import BIN_DIR, Cluster, wait_for
from hosts import Hosts, why_not


@pytest.fixture
def hosts(tmp_path):
    if why := why_not():
        pytest.skip(f"four hosts: {why}")
    hosts = Hosts(tmp_path / "hosts", 4)
    try:
        yield hosts
    finally:
        hosts.close()


class HostsCluster(Cluster):
    """One slot a host. It looks at them often, so that a test need not wait long."""

    def __init__(self, directory, hosts):
        super().__init__(directory, worker=BIN_DIR / "fr-fake-worker")
        self.hosts = hosts
        self.rpc = self.rpc.replace("127.0.0.1", hosts.address)
        nodes = ", ".join(f"{{name: {host.name}, slots: 1}}" for host in hosts.hosts)
        self.config.write_text(f"""\
state_dir: state
rpc: {self.rpc}
http: {self.url.removeprefix("http://")}
launcher: hosts
nodes: [{nodes}]
ssh: {{args: [-F, {hosts.ssh_config}], probe_every: 1s, probe_timeout: 2s}}
mpirun_args: [-mca, btl_tcp_if_include, 10.77.0.0/24]
worker: {BIN_DIR / "fr-fake-worker"}
kill_grace: 1s
restart_backoff: 100ms
scheduler: {{min_run_time: 1s}}
""")

    def job(self, job_id):
        return self.get(f"/jobs/{job_id}")

    def step(self, job_id):
        return (self.job(job_id)["progress"] or {}).get("step") or 0

    def wait_for_attempt(self, job_id, attempt, further=0):
        """Until that attempt trains, and has made `further` steps more than there are now."""
        def trains():
            job = self.job(job_id)
            return job["state"] == "RUNNING" and job["attempt"] == attempt

        wait_for(trains, f"attempt {attempt} of {job_id}", 120)
        begin = self.step(job_id)
        wait_for(lambda: self.step(job_id) > begin + further, f"steps of attempt {attempt}")

    def shards(self, job_id):
        """Number of ranges of each generation."""
        return [len(plan["ranges"]) for plan in self.get(f"/jobs/{job_id}/shards")["plans"]]

    def journal(self, job_id):
        """(attempt, rank, event, host) of what workers have noted, in order."""
        path = self.directory / "state/jobs" / job_id / "fake-worker.journal"
        lines = [line.split() for line in path.read_text().splitlines()]
        return [(int(line[0]), int(line[1]), line[3], line[5]) for line in lines]

    def started(self, job_id, attempt):
        """The host of each rank of an attempt."""
        starts = [entry for entry in self.journal(job_id) if entry[::2] == (attempt, "start")]
        return {rank: host for _, rank, _, host in starts}

    def wait_until_hosts_are_empty(self):
        def left():
            return [f"{host.name}: {command}" for host in self.hosts.hosts
                    for _, command in host.processes() if not command.startswith("sshd")]

        wait_for(lambda: not left(), "the end of all that ran on the hosts")


@pytest.fixture
def write_job(stand_in_faces, tmp_path):
    """A job file of that name on four workers, or two at least. Without an end of its own, unless
    `steps` says one."""
    def write(name="elastic", steps=10_000_000, min_workers=2):
        path = tmp_path / f"{name}.yaml"
        path.write_text(f"""\
name: {name}
resources: {{workers: 4, min_workers: {min_workers}, expected_time: 10h}}
data: {{train: {stand_in_faces}, batch_size: 4}}
model: {{network: mbf, embedding_size: 32}}
train: {{max_steps: {steps}}}
checkpoint: {{every: 10}}
restart: {{max_restarts: 1}}
""")
        return path

    return write


@pytest.fixture
def cluster(hosts, write_job, tmp_path):
    """One that has seen all of its hosts: it has run a job on all of them."""
    cluster = HostsCluster(tmp_path / "cluster", hosts)
    try:
        cluster.start()
        first = cluster.wait_until_ended(cluster.submit(write_job("first", 1, min_workers=4)))
        assert first["state"] == "COMPLETED", first["reason"]
        yield cluster
    finally:
        cluster.stop()


def worker_pid(host):
    """The host's worker."""
    return next(pid for pid, command in host.processes() if "fr-fake-worker" in command.split()[0])


def daemon_pid(host):
    """mpirun's daemon on the host."""
    return next(pid for pid, command in host.processes() if command.startswith("orted"))


def resumed_from(job):
    """The step from which each attempt began."""
    reasons = [one["reason"] for one in job["transitions"] if one["to"] == "RUNNING"]
    steps = [re.search(r"from the checkpoint of step (\d+)", reason) for reason in reasons]
    return [int(step.group(1)) if step else 0 for step in steps]


# One rank on each host, and nothing left on any of them.
def test_a_job_runs_on_four_hosts(cluster, write_job):
    job_id = cluster.submit(write_job(steps=20))
    job = cluster.wait_until_ended(job_id)
    assert job["state"] == "COMPLETED", job["reason"]
    assert job["attempt"] == 1
    assert sorted(cluster.started(job_id, 1).values()) == ["node1", "node2", "node3", "node4"]
    assert cluster.shards(job_id) == [4]
    cluster.wait_until_hosts_are_empty()


# A host whose network is cut, or whose power fails, is down; the job goes on without it from its
# last checkpoint, which is no restart of its own doing, and grows again once the host is back. What
# a host that was only cut off has kept is ended.
@pytest.mark.parametrize("loss", ["network", "power"])
def test_an_elastic_job_outlives_a_host(cluster, hosts, write_job, loss):
    lost = hosts[2]
    job_id = cluster.submit(write_job())
    cluster.wait_for_attempt(job_id, 1, further=15)
    if loss == "network":
        lost.disconnect()
    else:
        lost.switch_off()
    cluster.wait_for_attempt(job_id, 2, further=15)
    assert "node3" in cluster.log.read_text()
    assert sorted(cluster.started(job_id, 2).values()) == ["node1", "node2", "node4"]
    assert "node node3 is down" in cluster.log.read_text()
    job = cluster.job(job_id)
    assert job["restarts"] == 0
    assert resumed_from(job)[1] >= 10
    if loss == "network":
        lost.connect()
    else:
        lost.switch_on()
    cluster.wait_for_attempt(job_id, 3, further=15)
    assert sorted(cluster.started(job_id, 3).values()) == ["node1", "node2", "node3", "node4"]
    assert cluster.shards(job_id) == [4, 3, 4]
    # Asked to make room for itself it stopped at a checkpoint: nothing was computed twice.
    ends = [one["reason"] for one in cluster.job(job_id)["transitions"] if one["to"] == "RESTARTING"]
    assert resumed_from(cluster.job(job_id))[2] > resumed_from(cluster.job(job_id))[1], ends
    table = cluster.run("frctl", "shards", job_id)
    assert table.returncode == 0, table.stderr
    plans = [line for line in table.stdout.splitlines() if "plan" in line]
    assert plans == ["plan 3: 1,000 identities on 4 ranks",
                     "earlier plan 2: 1,000 identities on 3 ranks",
                     "earlier plan 1: 1,000 identities on 4 ranks"]
    assert all(host.name in table.stdout for host in hosts.hosts)
    assert cluster.run("frctl", "cancel", job_id).returncode == 0
    cluster.wait_until_ended(job_id)
    cluster.wait_until_hosts_are_empty()


# mpirun's daemon dies and leaves its worker without a master: that worker is ended before the next
# attempt begins, so that no two attempts write the same checkpoint.
def test_attempts_never_meet(cluster, hosts, write_job):
    job_id = cluster.submit(write_job())
    cluster.wait_for_attempt(job_id, 1, further=15)
    os.kill(daemon_pid(hosts[1]), signal.SIGKILL)
    cluster.wait_for_attempt(job_id, 2, further=15)
    os.kill(worker_pid(hosts[0]), signal.SIGKILL)
    cluster.wait_for_attempt(job_id, 3, further=15)
    assert "overlap" not in [event for _, _, event, _ in cluster.journal(job_id)]
    reasons = [one["reason"] for one in cluster.job(job_id)["transitions"]]
    assert any("the connection to node2 was lost" in reason for reason in reasons), reasons
    assert any("on node1 ended by signal 9" in reason for reason in reasons), reasons
    cluster.run("frctl", "cancel", job_id)
    cluster.wait_until_hosts_are_empty()


# A coordinator that was killed finds the attempt again, wherever it runs.
def test_a_killed_coordinator_finds_its_hosts_again(cluster, write_job):
    job_id = cluster.submit(write_job())
    cluster.wait_for_attempt(job_id, 1, further=5)
    cluster.kill(signal.SIGKILL)
    cluster.start()
    cluster.wait_for_attempt(job_id, 1, further=15)
    assert cluster.job(job_id)["attempt"] == 1
    cluster.run("frctl", "cancel", job_id)
    cluster.wait_until_ended(job_id)
    cluster.wait_until_hosts_are_empty()


# Cancelled while its workers pay no attention.
def test_a_cancelled_job_leaves_nothing(cluster, hosts, write_job):
    job_id = cluster.submit(write_job())
    cluster.wait_for_attempt(job_id, 1)
    for host in hosts.hosts:
        os.kill(worker_pid(host), signal.SIGSTOP)
    cluster.run("frctl", "cancel", job_id)
    cluster.wait_until_hosts_are_empty()
    assert not list(Path(cluster.directory).rglob("exit_status.partial"))
