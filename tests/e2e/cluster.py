"""A real coordinator in a directory of its own, and its commands."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

BIN_DIR = Path(os.environ.get("FR_BIN_DIR", "build/release/bin")).resolve()
# In the driver's library's place (tests/common/fake_nvml.c): an H100 and an A100.
FAKE_NVML = BIN_DIR.parent / "lib/libfr_fake_nvml.so"
ENDED = ("COMPLETED", "FAILED", "CANCELLED")


def wait_for(condition, what, seconds=60):
    """The first true value of condition(); fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {what}"
        time.sleep(0.05)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Cluster:
    """One coordinator. Its ports stay the same over restarts."""

    def __init__(self, directory, slots=2, worker=None, config=""):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.rpc = f"tcp://127.0.0.1:{free_port()}"
        http = f"127.0.0.1:{free_port()}"
        self.url = f"http://{http}"
        self.config = self.directory / "coordinator.yaml"
        self.config.write_text(
            f"state_dir: state\nrpc: {self.rpc}\nhttp: {http}\n"
            f"nodes: [{{name: localhost, slots: {slots}}}]\nkill_grace: 1s\n"
            + (f"worker: {worker}\n" if worker else "") + config
        )
        self.log = self.directory / "coordinator.log"
        self.process = None
        self.mark = f"FR_E2E_CLUSTER={self.directory}"

    def environment(self):
        name, value = self.mark.split("=", 1)
        return {**os.environ, "FR_COORDINATOR": self.rpc, name: value}

    def start(self):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [BIN_DIR / "fr-coordinator", "--config", self.config],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=self.environment(), start_new_session=True)

        def ready():
            assert self.process.poll() is None, (
                f"fr-coordinator ended at once:\n{self.log.read_text()}")
            with contextlib.suppress(OSError):
                return urllib.request.urlopen(f"{self.url}/readyz", timeout=5).status == 200
            return False

        wait_for(ready, "the coordinator to be ready")
        return self

    def kill(self, signal_number=signal.SIGKILL):
        self.process.send_signal(signal_number)
        return self.process.wait(timeout=60)

    def stop(self):
        """Ends the coordinator and everything that it started, wherever that went."""
        if self.process and self.process.poll() is None:
            self.kill(signal.SIGTERM)
        for pid in self._descendants():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _descendants(self):
        mark = self.mark.encode()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    yield int(entry.name)

    def run(self, program, *arguments, timeout=120, **options):
        """Runs one of our commands to its end."""
        return subprocess.run(
            [BIN_DIR / program, *map(str, arguments)], capture_output=True, text=True,
            timeout=timeout, env=self.environment(), check=False, **options)

    def submit(self, job_file, *arguments):
        done = self.run("fr-submit", job_file, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def request(self, path, method="GET", headers=None, body=None):
        """(status, headers, body) of an HTTP request, whatever the status."""
        request = urllib.request.Request(
            self.url + path, method=method, headers=headers or {}, data=body)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, response.headers, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()

    def get(self, path):
        status, _, body = self.request(f"/api/v1{path}")
        assert status == 200, body
        return json.loads(body)

    def wait_until_ended(self, job_id, seconds=300):
        def ended():
            job = self.get(f"/jobs/{job_id}")
            return job if job["state"] in ENDED else None

        return wait_for(ended, f"the end of {job_id}", seconds)
