"""A coordinator whose workers only pretend to train (tests/fake_worker): fast, and without LibTorch."""

from cluster import BIN_DIR, Cluster, wait_for


def reasons(job):
    return [transition["reason"] or "" for transition in job["transitions"]]


class FakeCluster(Cluster):
    def __init__(self, directory, slots=2, config=""):
        super().__init__(directory, slots=slots, worker=BIN_DIR / "fr-fake-worker",
                         config="restart_backoff: 100ms\n" + config)

    def job_file(self, name, steps, workers=2, max_restarts=1, stall_timeout="10m"):
        """A job which keeps every fifth step."""
        path = self.directory / f"{name}.yaml"
        path.write_text(f"""\
name: {name}
resources: {{workers: {workers}, memory_gib: 0.01}}
data: {{train: /nowhere, total_batch_size: 64}}
train: {{max_steps: {steps}}}
checkpoint: {{every: 5, keep: 2}}
restart: {{max_restarts: {max_restarts}, stall_timeout: {stall_timeout}}}
""")
        return path

    def submit_job(self, name, steps, *arguments, **options):
        return self.submit(self.job_file(name, steps, **options), "--remote-paths", *arguments)

    def directory_of(self, job_id):
        return self.directory / "state/jobs" / job_id

    def journal(self, job_id):
        """(attempt, rank, pid, event) of what workers have noted, in order."""
        lines = (self.directory_of(job_id) / "fake-worker.journal").read_text().splitlines()
        return [(int(attempt), int(rank), int(pid), event)
                for attempt, rank, pid, event, *_ in map(str.split, lines)]

    def wait_until_it_trains(self, job_id, beyond=0):
        wait_for(lambda: (self.get(f"/jobs/{job_id}")["progress"] or {}).get("step", 0) > beyond,
                 f"a step of {job_id} beyond {beyond}")

    def wait_for_state(self, job_id, state):
        def is_there():
            job = self.get(f"/jobs/{job_id}")
            return job if job["state"] == state else None

        return wait_for(is_there, f"{job_id} to be {state}")

    def points(self, job_id):
        """The steps whose loss is known."""
        [series] = self.get(f"/jobs/{job_id}/metrics?names=train/loss")["series"]
        return series["steps"]

    def processes(self):
        """All that the coordinator has started, and that lives."""
        return set(self._descendants()) - {self.process.pid}
