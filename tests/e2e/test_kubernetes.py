"""Jobs as MPIJobs: the real coordinator against an API server that holds it to the contract."""

import signal

import pytest
import yaml

from cluster import BIN_DIR, Cluster, wait_for
from kube_api import KubeApi, Refused, granted
from kube_operator import KubeOperator


class KubeCluster(Cluster):
    """A coordinator that starts its jobs on `api`, where `operator` makes fr-fake-worker run them."""

    def __init__(self, directory):
        super().__init__(directory, worker=BIN_DIR / "fr-fake-worker")
        self.api = KubeApi(self.directory / "kube").start()
        self.operator = KubeOperator(self.api, self.environment()).start()
        config = yaml.safe_load(self.config.read_text())
        config |= {"launcher": "kubernetes", "nodes": [{"name": "lab", "slots": 8}],
                   "restart_backoff": "100ms", "kubernetes": self.api.config(self.directory)}
        self.config.write_text(yaml.safe_dump(config))

    def stop(self):
        super().stop()
        self.operator.stop()
        self.api.stop()

    def job(self, name="tiny", steps=5, max_restarts=1):
        path = self.directory / f"{name}.yaml"
        path.write_text(yaml.safe_dump({
            "name": name, "resources": {"workers": 2, "memory_gib": 0.01},
            "data": {"train": "/nowhere"}, "train": {"max_steps": steps},
            "checkpoint": {"every": 5, "keep": 2}, "restart": {"max_restarts": max_restarts}}))
        return self.submit(path, "--remote-paths")

    def running(self, job_id):
        return wait_for(lambda: self.get(f"/jobs/{job_id}")["state"] == "RUNNING",
                        f"{job_id} to run")

    def mpi_jobs(self):
        with self.api.lock:
            return sorted(self.api.mpi_jobs)


@pytest.fixture
def kube(tmp_path):
    cluster = KubeCluster(tmp_path / "cluster")
    try:
        yield cluster.start()
    finally:
        cluster.stop()
    assert cluster.api.violations == []


def reasons(job):
    return " | ".join(transition["reason"] or "" for transition in job["transitions"])


# The whole road: a job file, an MPIJob, pods, mpirun, workers that report, and their log.
def test_a_job_completes(kube):
    job_id = kube.job()
    job = kube.wait_until_ended(job_id)
    assert job["state"] == "COMPLETED", reasons(job)
    assert job["attempt"] == 1
    assert len(kube.api.created) == 1
    mpi_job = kube.api.mpi_jobs[kube.api.created[0]]
    assert mpi_job["metadata"]["labels"]["fr/job"] == job_id
    assert mpi_job["spec"]["mpiReplicaSpecs"]["Worker"]["replicas"] == 2
    assert "fake worker: attempt 1, 2 ranks" in kube.run("frctl", "logs", job_id).stdout
    nodes = kube.get("/nodes")["nodes"]
    assert [(node["name"], node["liveness"]) for node in nodes] == [("lab", "UP")]


# A worker that fails ends its attempt with mpirun's status and log, and the next one succeeds.
def test_a_failed_attempt_is_restarted(kube):
    job = kube.wait_until_ended(kube.job("crash-once-at-3"))
    assert job["state"] == "COMPLETED", reasons(job)
    assert job["attempt"] == 2 and job["restarts"] == 1
    assert "exit status 3" in reasons(job)
    assert len(kube.api.created) == 2


# kubectl delete mpijob: the coordinator notices when it and its pods are gone, and starts again.
def test_a_deleted_mpijob_is_made_again(kube):
    job_id = kube.job(steps=10_000, max_restarts=3)
    kube.running(job_id)
    [name] = kube.mpi_jobs()
    with kube.api.lock:
        kube.api.mpi_jobs[name]["metadata"]["deletionTimestamp"] = "2100-01-01T00:00:00Z"
    wait_for(lambda: len(kube.api.created) == 2, "a second MPIJob")
    job = kube.get(f"/jobs/{job_id}")
    assert f"the MPIJob {name} is gone: it was deleted" in reasons(job)
    kube.run("frctl", "cancel", job_id)


# Why a pod does not start is what its job's owner reads.
def test_the_owner_reads_why_pods_do_not_start(kube):
    kube.operator.stuck = ("ImagePullBackOff", "Back-off pulling image")
    job_id = kube.job()

    def shown():
        text = kube.run("frctl", "show", job_id).stdout
        return "ImagePullBackOff: Back-off pulling image" in text and "-worker-" in text

    wait_for(shown, "the reason")
    kube.operator.stuck = None
    assert kube.wait_until_ended(job_id)["state"] == "COMPLETED"


# The coordinator dies after the MPIJob was made and before it could write that down.
def test_an_mpijob_is_adopted_after_kill_9(kube):
    kube.api.on_created = lambda _: kube.kill(signal.SIGKILL)
    job_id = kube.job()
    wait_for(lambda: kube.process.poll() is not None, "the coordinator's end")
    kube.api.on_created = None
    kube.start()
    job = kube.wait_until_ended(job_id)
    assert job["state"] == "COMPLETED", reasons(job)
    assert job["attempt"] == 1
    assert len(kube.api.created) == 1


# It dies while its request is on its way. The next coordinator gives that attempt up; when the
# request arrives after all, its MPIJob starts no worker and is deleted.
def test_a_late_mpijob_starts_nothing(kube):
    bodies = []
    create = kube.api._create

    def lose(body):
        if bodies:
            return create(body)
        bodies.append(body)
        kube.kill(signal.SIGKILL)
        raise ConnectionAbortedError

    kube.api._create = lose
    job_id = kube.job(steps=10_000)
    wait_for(lambda: kube.process.poll() is not None, "the coordinator's end")
    kube.start()
    kube.running(job_id)
    [second] = kube.mpi_jobs()
    late = bodies[0]["metadata"]["name"]
    assert late != second
    kube.api.store(bodies[0])
    wait_for(lambda: kube.mpi_jobs() == [second], "the late MPIJob to be deleted")
    job = kube.get(f"/jobs/{job_id}")
    assert job["state"] == "RUNNING" and job["attempt"] == 2
    assert kube.run("frctl", "logs", job_id, "--attempt", "1").stdout == ""
    kube.run("frctl", "cancel", job_id)


# An API server that is away ends no job, and when it is back all is as it was.
def test_nothing_is_lost_while_the_api_server_is_away(kube):
    job_id = kube.job(steps=10_000)
    kube.running(job_id)
    port = kube.api.port
    kube.api.stop()

    def liveness():
        return kube.get("/nodes")["nodes"][0]["liveness"]

    wait_for(lambda: liveness() == "DOWN", "the cluster to be down")
    waiting = kube.job("waits")
    step = kube.get(f"/jobs/{job_id}")["progress"]["step"]
    wait_for(lambda: kube.get(f"/jobs/{job_id}")["progress"]["step"] > step, "more steps")
    kube.api.start(port)
    wait_for(lambda: liveness() == "UP", "the cluster to be up")
    assert kube.wait_until_ended(waiting)["state"] == "COMPLETED"
    job = kube.get(f"/jobs/{job_id}")
    assert (job["state"], job["attempt"]) == ("RUNNING", 1), reasons(job)
    kube.run("frctl", "cancel", job_id)


def test_cancel_deletes_the_mpijob(kube):
    job_id = kube.job(steps=10_000)
    kube.running(job_id)
    kube.run("frctl", "cancel", job_id)
    wait_for(lambda: not kube.mpi_jobs(), "the MPIJob to be gone")
    assert kube.get(f"/jobs/{job_id}")["state"] == "CANCELLED"
    assert not kube.api.pods


# A service account's token is replaced while jobs run.
def test_a_new_token_is_used(kube):
    job_id = kube.job(steps=10_000)
    kube.running(job_id)
    kube.api.rotate_token("token-2")
    kube.run("frctl", "cancel", job_id)
    wait_for(lambda: not kube.mpi_jobs(), "the MPIJob to be gone")


# Lists come in pages, and no job falls between two of them.
def test_many_jobs_in_small_pages(kube):
    kube.api.page_size = 1
    jobs = [kube.job(f"page-{index}") for index in range(4)]
    for job_id in jobs:
        job = kube.wait_until_ended(job_id)
        assert (job["state"], job["attempt"]) == ("COMPLETED", 1), reasons(job)


# Where the Role is missing, the job's owner reads what to do.
def test_a_missing_role_is_named(kube):
    kube.api.granted = kube.api.granted - {("kubeflow.org", "mpijobs", "create")}
    job = kube.wait_until_ended(kube.job(max_restarts=0))
    assert job["state"] == "FAILED"
    assert "may not create mpijobs: apply k8s/base/rbac.yaml" in job["reason"]


# Busy, broken, and back: an attempt that was refused for now is made later.
def test_a_busy_api_server_is_asked_again(kube):
    refusals = iter([Refused(429, "TooManyRequests", "later", {"Retry-After": "1"}),
                     Refused(503, "ServiceUnavailable", "not now")])

    def busy(verb, resource, name):
        refusal = next(refusals, None) if verb == "create" else None
        if refusal:
            raise refusal

    kube.api.fault = busy
    job = kube.wait_until_ended(kube.job())
    assert job["state"] == "COMPLETED", reasons(job)
    assert job["restarts"] == 0


# The Role grants what one life of the coordinator needs, and nothing that it does not: an attempt
# is made, found again after kill -9, looked at, asked to end, and killed.
def test_the_role_is_least_privilege(kube):
    kube.operator.stubborn = True
    kube.api.on_created = lambda _: kube.kill(signal.SIGKILL)
    job_id = kube.job(steps=10_000)
    wait_for(lambda: kube.process.poll() is not None, "the coordinator's end")
    kube.api.on_created = None
    kube.start()
    kube.running(job_id)
    kube.run("frctl", "cancel", job_id)
    wait_for(lambda: not kube.mpi_jobs() and not kube.api.pods, "the stubborn pods to be killed")
    assert kube.api.used == granted()
