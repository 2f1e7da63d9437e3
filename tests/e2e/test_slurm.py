"""Jobs on a real Slurm: fr-coordinator, and fr-fake-worker in fr-worker's place."""

import contextlib
import shutil

import pytest

import slurm_cluster
from cluster import BIN_DIR, ENDED, Cluster, wait_for
from slurm_cluster import SlurmCluster

JOB = """\
name: {name}
resources: {{workers: {workers}, min_workers: {min_workers}, device: cpu}}
data: {{train: {train}, batch_size: 4}}
train: {{max_steps: {steps}}}
checkpoint: {{every: 5}}
restart: {{max_restarts: 2}}
"""
ENDLESS = 1_000_000


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    slurm_cluster.skip_unless_possible()
    slurm = SlurmCluster(tmp_path_factory.mktemp("slurm") / "slurm")
    try:
        yield slurm.start()
    finally:
        slurm.stop()


class Coordinator(Cluster):
    """One whose workers run in Slurm."""

    def __init__(self, directory, slurm, mpi="pmix"):
        super().__init__(directory)
        self.slurm = slurm
        self.bin_dir = self.directory / "slurm-bin"
        self.bin_dir.mkdir()
        for name in ("squeue", "scancel", "sinfo", "srun", "sbatch"):
            (self.bin_dir / name).symlink_to(shutil.which(name))
        http = self.url.removeprefix("http://")
        self.config.write_text(f"""\
state_dir: state
rpc: {self.rpc}
http: {http}
worker: {BIN_DIR}/fr-fake-worker
launcher: slurm
slurm: {{mpi: {mpi}, poll_every: 200ms, bin_dir: {self.bin_dir}}}
nodes: [{{name: slurm, slots: 6}}]
kill_grace: 1s
restart_backoff: 100ms
scheduler: {{min_run_time: 0s}}
""")

    def environment(self):
        return {**self.slurm.environment(), **super().environment(),
                "PATH": self.slurm.environment()["PATH"], "FR_FAKE_STEP_MS": "100"}

    def submit_job(self, faces, name, workers=4, min_workers=None, steps=10, **keys):
        path = self.directory / f"{name}.yaml"
        path.write_text(JOB.format(name=name, workers=workers, train=faces, steps=steps,
                                   min_workers=min_workers or workers, **keys))
        return self.submit(path)

    def wait_until_ended(self, job_id, seconds=60):
        """Until Slurm has its nodes back, too."""
        job = super().wait_until_ended(job_id, seconds)
        wait_for(lambda: not self.live_slurm_jobs(job_id), f"the batch job of {job_id} to end")
        return job

    def live_slurm_jobs(self, job_id):
        names = self.slurm.command("squeue", "-h", "-o", "%j").split()
        return [name for name in names if name.startswith(f"fr-{job_id}-")]

    def job(self, job_id):
        return self.get(f"/jobs/{job_id}")

    def wait_for_step(self, job_id, step):
        wait_for(lambda: ((self.job(job_id)["progress"] or {}).get("step") or 0) >= step,
                 f"step {step} of {job_id}")

    def wait_for_attempt(self, job_id, attempt, workers):
        """Until it runs, with so many workers."""
        def runs():
            job = self.job(job_id)
            assert job["state"] not in ENDED, job["reason"]
            return (job["attempt"], job["state"]) == (attempt, "RUNNING") and workers == len(
                [line for line in self.journal(job_id) if line[::2] == (attempt, "start")])

        wait_for(runs, f"attempt {attempt} of {job_id}")

    def cancel(self, job_id):
        done = self.run("frctl", "cancel", job_id)
        assert done.returncode == 0, done.stderr
        return self.wait_until_ended(job_id)

    def slurm_job(self, job_id, attempt):
        """The number of the attempt's job in Slurm; None before it has one."""
        lines = self.slurm.command("squeue", "-h", "--states=all", "-o", "%i %Z").splitlines()
        for line in lines:
            number, directory = line.split(maxsplit=1)
            if directory == str(self.attempt_directory(job_id, attempt)):
                return number
        return None

    def attempt_directory(self, job_id, attempt):
        return self.directory / "state" / "jobs" / job_id / f"attempt-{attempt}"

    def journal(self, job_id):
        """(attempt, rank, event) of all that its workers did."""
        text = (self.directory / "state" / "jobs" / job_id / "fake-worker.journal").read_text()
        return [(int(words[0]), int(words[1]), words[3])
                for words in map(str.split, text.splitlines())]

    def hold_sbatch(self, when):
        """sbatch waits, "before" or "after" it submits, until it is released."""
        held, release = self.bin_dir / "held", self.bin_dir / "release"
        sbatch = self.bin_dir / "sbatch"
        sbatch.unlink()
        wait = f"touch {held}; until [ -e {release} ]; do sleep 0.05; done"
        real = f'{shutil.which("sbatch")} "$@"'
        lines = {"before": f"{wait}\nexec {real}", "after": f'answer=$({real})\n{wait}\necho $answer'}
        sbatch.write_text(f"#!/bin/sh\n{lines[when]}\n")
        sbatch.chmod(0o755)
        return held

    def release_sbatch(self):
        sbatch = self.bin_dir / "sbatch"
        sbatch.unlink()
        sbatch.symlink_to(shutil.which("sbatch"))
        (self.bin_dir / "release").touch()

    def assert_attempts_ran_alone(self, job_id, ranks_of_attempts):
        """Each attempt's ranks started once, and never beside another attempt."""
        journal = self.journal(job_id)
        assert not [line for line in journal if line[2] == "overlap"], journal
        starts = sorted(line[:2] for line in journal if line[2] == "start")
        assert starts == [(attempt, rank) for attempt, ranks in ranks_of_attempts.items()
                          for rank in range(ranks)]


@pytest.fixture
def coordinator(tmp_path, slurm):
    coordinator = Coordinator(tmp_path / "cluster", slurm)
    try:
        yield coordinator.start()
    finally:
        coordinator.stop()
        for number in slurm.live_jobs():
            slurm.command("scancel", number)
        wait_for(lambda: not slurm.live_jobs(), "Slurm's jobs to end")


@contextlib.contextmanager
def full_cluster(slurm):
    """Somebody else has all nodes of the cluster."""
    number = slurm.command("sbatch", "--parsable", "--ntasks=6", "--output=/dev/null", "--wrap",
                           "sleep 600").strip()
    try:
        wait_for(lambda: slurm.jobs()[number] == "RUNNING", "the other's job to run")
        yield
    finally:
        slurm.command("scancel", number)


# It is one batch job that says who it is, and its exit status is left in its directory.
def test_a_job_runs_to_its_end(coordinator, slurm, stand_in_faces):
    job_id = coordinator.submit_job(stand_in_faces, "plain")
    assert coordinator.wait_until_ended(job_id)["state"] == "COMPLETED"
    coordinator.assert_attempts_ran_alone(job_id, {1: 4})
    number = coordinator.slurm_job(job_id, 1)
    shown = slurm.command("scontrol", "show", "job", number)
    for text in (f"JobName=fr-{job_id}-1", "JobState=COMPLETED", "NumTasks=4", "Requeue=0",
                 "ExitCode=0:0"):
        assert text in shown
    directory = coordinator.attempt_directory(job_id, 1)
    assert (directory / "exit_status").read_text() == "0\n"
    assert (directory / "claim").read_text() == f"{number}\n"
    assert "4 ranks, from step 0" in (directory / "worker.log").read_text()


# Where Slurm's PMIx does not fit the workers' MPI.
def test_workers_may_be_started_by_mpirun(tmp_path, slurm, stand_in_faces):
    coordinator = Coordinator(tmp_path / "cluster", slurm, mpi="mpirun")
    try:
        coordinator.start()
        job_id = coordinator.submit_job(stand_in_faces, "mpirun")
        assert coordinator.wait_until_ended(job_id)["state"] == "COMPLETED"
        coordinator.assert_attempts_ran_alone(job_id, {1: 4})
        endless = coordinator.submit_job(stand_in_faces, "endless", steps=ENDLESS)
        coordinator.wait_for_step(endless, 1)
        coordinator.cancel(endless)
        # mpirun got the signal and could say so; the batch job was not killed.
        assert (coordinator.attempt_directory(endless, 1) / "exit_status").exists()
    finally:
        coordinator.stop()


# As by a person who needs the nodes: the job goes on from where it was.
def test_a_cancelled_batch_job_starts_again_at_its_checkpoint(coordinator, slurm, stand_in_faces):
    job_id = coordinator.submit_job(stand_in_faces, "cancelled", steps=60)
    coordinator.wait_for_step(job_id, 6)
    slurm.command("scancel", coordinator.slurm_job(job_id, 1))
    job = coordinator.wait_until_ended(job_id)
    assert job["state"] == "COMPLETED"
    assert job["restarts"] == 1
    assert any("was cancelled" in transition["reason"] for transition in job["transitions"])
    coordinator.assert_attempts_ran_alone(job_id, {1: 4, 2: 4})
    log = (coordinator.attempt_directory(job_id, 2) / "worker.log").read_text()
    assert "4 ranks, from step 0" not in log


# An administrator may do so though the job says --no-requeue. An attempt runs once.
def test_a_requeued_batch_job_is_replaced_by_a_new_attempt(coordinator, slurm, stand_in_faces):
    job_id = coordinator.submit_job(stand_in_faces, "requeued", steps=ENDLESS)
    coordinator.wait_for_step(job_id, 6)
    number = coordinator.slurm_job(job_id, 1)
    slurm.command("scontrol", "update", f"JobId={number}", "Requeue=1")
    slurm.command("scontrol", "requeue", number)
    coordinator.wait_for_attempt(job_id, 2, workers=4)
    assert coordinator.cancel(job_id)["restarts"] == 0
    coordinator.assert_attempts_ran_alone(job_id, {1: 4, 2: 4})
    assert slurm.jobs()[number] == "CANCELLED"


# Its job is not to blame: it goes on with the workers that find room without the node, and with all
# once the node is back.
def test_an_elastic_job_outlives_a_node(coordinator, slurm, stand_in_faces):
    job_id = coordinator.submit_job(stand_in_faces, "elastic", workers=6, min_workers=2,
                                    steps=ENDLESS)
    coordinator.wait_for_step(job_id, 6)
    slurm.lose_node("n2")
    try:
        coordinator.wait_for_attempt(job_id, 2, workers=4)
        assert "1 of 3 nodes take no jobs: n2 down" in coordinator.run("frctl", "nodes").stdout
    finally:
        slurm.start_node("n2")
        wait_for(lambda: slurm.node_states()["n2"] != "down", "n2 to come back")
    coordinator.wait_for_attempt(job_id, 3, workers=6)
    job = coordinator.cancel(job_id)
    assert job["restarts"] == 0
    reasons = [transition["reason"] for transition in job["transitions"]]
    assert any("n2 (Not responding)" in reason for reason in reasons), reasons
    coordinator.assert_attempts_ran_alone(job_id, {1: 6, 2: 4, 3: 6})


# People see what Slurm says; and a job that waits there is found again by a later coordinator.
def test_a_queued_job_outlives_its_coordinator(coordinator, slurm, stand_in_faces):
    with full_cluster(slurm):
        job_id = coordinator.submit_job(stand_in_faces, "queued")
        wait_for(lambda: "in Slurm's queue: Resources" in
                 coordinator.run("frctl", "show", job_id).stdout, "Slurm's reason")
        coordinator.kill()
        coordinator.start()
        wait_for(lambda: "in Slurm's queue: Resources" in coordinator.job(job_id)["reason"],
                 "Slurm's reason after the restart")
    assert coordinator.wait_until_ended(job_id)["state"] == "COMPLETED"
    coordinator.assert_attempts_ran_alone(job_id, {1: 4})


def test_a_running_job_outlives_its_coordinator(coordinator, stand_in_faces):
    job_id = coordinator.submit_job(stand_in_faces, "running", steps=30)
    coordinator.wait_for_step(job_id, 3)
    coordinator.kill()
    coordinator.start()
    assert coordinator.wait_until_ended(job_id)["state"] == "COMPLETED"
    coordinator.assert_attempts_ran_alone(job_id, {1: 4})


# Slurm has taken the job, and the coordinator dies before it hears of it: the job is found, whether
# it runs already or waits.
@pytest.mark.parametrize("queued", [False, True])
def test_a_submission_without_its_answer_is_found(coordinator, slurm, stand_in_faces, queued):
    with full_cluster(slurm) if queued else contextlib.nullcontext():
        held = coordinator.hold_sbatch("after")
        job_id = coordinator.submit_job(stand_in_faces, "unanswered", steps=30)
        wait_for(held.exists, "sbatch")
        number = coordinator.slurm_job(job_id, 1)
        wait_for(lambda: slurm.jobs()[number] == ("PENDING" if queued else "RUNNING"), "its state")
        coordinator.kill()
        coordinator.release_sbatch()
        coordinator.start()
        wait_for(lambda: coordinator.job(job_id)["state"] in ("STARTING", "RUNNING"), "the job")
    assert coordinator.wait_until_ended(job_id)["state"] == "COMPLETED"
    coordinator.assert_attempts_ran_alone(job_id, {1: 4})


# The coordinator dies, its sbatch lives on and submits when the job has long been started anew: the
# late one runs nothing.
def test_a_submission_that_comes_late_runs_nothing(coordinator, slurm, stand_in_faces):
    held = coordinator.hold_sbatch("before")
    job_id = coordinator.submit_job(stand_in_faces, "late", workers=2, steps=40)
    wait_for(held.exists, "sbatch")
    coordinator.kill()
    (coordinator.bin_dir / "sbatch").rename(coordinator.bin_dir / "held-sbatch")
    (coordinator.bin_dir / "sbatch").symlink_to(shutil.which("sbatch"))
    coordinator.start()
    coordinator.wait_for_step(job_id, 3)
    coordinator.release_sbatch()
    wait_for(lambda: coordinator.slurm_job(job_id, 1), "the late job")
    assert coordinator.wait_until_ended(job_id)["state"] == "COMPLETED"
    assert slurm.jobs()[coordinator.slurm_job(job_id, 1)] in ("FAILED", "CANCELLED")
    coordinator.assert_attempts_ran_alone(job_id, {2: 2})


# Its controller is away, with one job running, one waiting there and one that it has not been asked
# for: none is lost, none runs twice.
def test_slurm_may_be_away_for_a_while(coordinator, slurm, stand_in_faces):
    running = coordinator.submit_job(stand_in_faces, "running", workers=4, steps=120)
    coordinator.wait_for_step(running, 3)
    blocker = slurm.command("sbatch", "--parsable", "--ntasks=2", "--output=/dev/null", "--wrap",
                            "sleep 600").strip()
    queued = coordinator.submit_job(stand_in_faces, "queued", workers=2)
    wait_for(lambda: "in Slurm's queue" in coordinator.job(queued)["reason"], "the queue")
    slurm.stop_controller()
    try:
        wait_for(lambda: "Unable to contact slurm" in coordinator.job(queued)["reason"],
                 "the coordinator to miss Slurm")
        late = coordinator.submit_job(stand_in_faces, "late", workers=2)
        coordinator.wait_for_step(running, coordinator.job(running)["progress"]["step"] + 3)
        assert coordinator.job(running)["state"] == "RUNNING"
    finally:
        slurm.start_controller()
    slurm.command("scancel", blocker)
    for job_id, workers in ((running, 4), (queued, 2), (late, 2)):
        assert coordinator.wait_until_ended(job_id)["state"] == "COMPLETED"
        coordinator.assert_attempts_ran_alone(job_id, {1: workers})


# Slurm's controller dies and has lost its memory of a job that runs and of one that waits: both are
# started anew, and never beside what Slurm does not know of.
def test_what_slurm_forgets_starts_again(coordinator, slurm, stand_in_faces):
    running = coordinator.submit_job(stand_in_faces, "running", workers=4, steps=ENDLESS)
    coordinator.wait_for_step(running, 6)
    slurm.command("sbatch", "--ntasks=2", "--output=/dev/null", "--wrap", "sleep 600")
    queued = coordinator.submit_job(stand_in_faces, "queued", workers=2)
    wait_for(lambda: "in Slurm's queue" in coordinator.job(queued)["reason"], "the queue")
    slurm.kill_controller()
    for saved in (slurm.directory / "state").glob("job_state*"):
        saved.unlink()
    slurm.start_controller()
    job = coordinator.wait_until_ended(queued)
    assert (job["state"], job["restarts"]) == ("COMPLETED", 0)
    coordinator.assert_attempts_ran_alone(queued, {2: 2})
    coordinator.wait_for_attempt(running, 2, workers=4)
    assert coordinator.cancel(running)["restarts"] == 0
    coordinator.assert_attempts_ran_alone(running, {1: 4, 2: 4})


# Whether it runs or waits, nothing of a cancelled job is left in Slurm.
def test_cancel_ends_everything(coordinator, slurm, stand_in_faces):
    running = coordinator.submit_job(stand_in_faces, "running", workers=6, steps=ENDLESS)
    coordinator.wait_for_step(running, 1)
    assert coordinator.cancel(running)["state"] == "CANCELLED"
    with full_cluster(slurm):
        queued = coordinator.submit_job(stand_in_faces, "queued")
        wait_for(lambda: "in Slurm's queue" in coordinator.job(queued)["reason"], "the queue")
        assert coordinator.cancel(queued)["state"] == "CANCELLED"
        number = coordinator.slurm_job(queued, 1)
        wait_for(lambda: slurm.jobs()[number] == "CANCELLED", "the queued job to end")
    coordinator.assert_attempts_ran_alone(running, {1: 6})
