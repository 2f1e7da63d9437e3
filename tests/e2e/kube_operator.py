"""The MPI Operator's and kubelets' part of kube_api.py: MPIJobs get pods, and the launcher's command
runs here, with a local mpirun in the place of one over the pods' sshd."""

import contextlib
import os
import re
import signal
import subprocess
import threading

from cluster import wait_for

ROLE = "training.kubeflow.org/job-role"


def condition(mpi_job, kind, reason="", message=""):
    """Sets a condition of this type, as the operator does."""
    conditions = mpi_job.setdefault("status", {}).setdefault("conditions", [])
    if not any(one["type"] == kind for one in conditions):
        conditions.append({"type": kind, "status": "True", "reason": reason or f"MPIJob{kind}",
                           "message": message})


def has_condition(mpi_job, kind):
    return any(one["type"] == kind for one in mpi_job.get("status", {}).get("conditions", []))


def literal(word, environment):
    """As Kubernetes takes a word of a command: $$ is $, $(NAME) a variable's value, if there is one."""
    return re.sub(r"\$\$|\$\((\w+)\)",
                  lambda found: "$" if found[0] == "$$" else environment.get(found[1], found[0]),
                  word)


class KubeOperator:
    """Works from start() to stop(), which ends what it has started."""

    def __init__(self, api, environment):
        self.api = api
        self.environment = {
            **environment, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            # What stands in the operator's hostfile: as many slots as there are workers.
            "OMPI_MCA_rmaps_base_oversubscribe": "1"}
        self.stuck = None       # (reason, message): no worker's container starts
        self.stubborn = False   # pods do not end when they are asked to
        self.processes = {}     # of launchers' pods, by name
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def start(self):
        self.thread.start()
        return self

    def stop(self):
        self.stopping.set()
        self.thread.join(timeout=30)
        for process in self.processes.values():
            self._kill(process)

    def _run(self):
        while not self.stopping.wait(0.02):
            with self.api.lock:
                for name in list(self.api.mpi_jobs):
                    self._reconcile(self.api.mpi_jobs[name])
                self._delete_pods()

    def _pods(self, mpi_job, role=None):
        name = mpi_job["metadata"]["name"]
        return [pod for pod in self.api.pods.values() if pod["owner"] == name
                and (role is None or pod["metadata"]["labels"][ROLE] == role)]

    def _reconcile(self, mpi_job):
        if "deletionTimestamp" in mpi_job["metadata"]:
            for pod in self._pods(mpi_job):
                pod["metadata"].setdefault("deletionTimestamp", "2100-01-01T00:00:00Z")
            if not self._pods(mpi_job):
                del self.api.mpi_jobs[mpi_job["metadata"]["name"]]
            return
        condition(mpi_job, "Created")
        if has_condition(mpi_job, "Succeeded") or has_condition(mpi_job, "Failed"):
            return
        self._make_workers(mpi_job)
        launchers = self._pods(mpi_job, "launcher")
        if launchers:
            self._watch(mpi_job, launchers[0])
        elif all(pod["status"]["phase"] == "Running" for pod in self._pods(mpi_job, "worker")):
            self._start_launcher(mpi_job)

    def _new_pod(self, mpi_job, role, name):
        template = mpi_job["spec"]["mpiReplicaSpecs"][role.capitalize()]["template"]
        pod = {"kind": "Pod", "apiVersion": "v1", "owner": mpi_job["metadata"]["name"],
               "metadata": {"name": name, "labels": {
                   **template["metadata"]["labels"], ROLE: role,
                   "training.kubeflow.org/job-name": mpi_job["metadata"]["name"]}},
               "spec": {**template["spec"], "nodeName": "node1"},
               "status": {"phase": "Pending"}}
        self.api.pods[name] = pod
        return pod

    def _make_workers(self, mpi_job):
        name = mpi_job["metadata"]["name"]
        for index in range(mpi_job["spec"]["mpiReplicaSpecs"]["Worker"]["replicas"]):
            pod = self.api.pods.get(f"{name}-worker-{index}")
            if pod is None:
                pod = self._new_pod(mpi_job, "worker", f"{name}-worker-{index}")
            if self.stuck:
                reason, message = self.stuck
                pod["status"]["containerStatuses"] = [
                    {"name": "main", "state": {"waiting": {"reason": reason, "message": message}}}]
            else:
                pod["status"] = {"phase": "Running"}

    def _start_launcher(self, mpi_job):
        pod = self._new_pod(mpi_job, "launcher", mpi_job["metadata"]["name"] + "-launcher-x7k2p")
        container = pod["spec"]["containers"][0]
        assert container["name"] == "main", "the operator takes the first container"
        environment = {one["name"]: one["value"] for one in container.get("env", [])}
        command = [literal(word, environment) for word in container["command"]]
        self.processes[pod["metadata"]["name"]] = subprocess.Popen(
            command, env={**self.environment, **environment}, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        pod["status"]["phase"] = "Running"
        condition(mpi_job, "Running")

    def _watch(self, mpi_job, pod):
        exit_code = self.processes[pod["metadata"]["name"]].poll()
        if exit_code is None:
            return
        if exit_code < 0:
            exit_code = 128 - exit_code
        pod["status"] = {
            "phase": "Succeeded" if exit_code == 0 else "Failed",
            "containerStatuses": [{"name": "main", "state": {"terminated": {
                "exitCode": exit_code, "reason": "Completed" if exit_code == 0 else "Error"}}}]}
        for worker in self._pods(mpi_job, "worker"):  # cleanPodPolicy: Running
            worker["metadata"].setdefault("deletionTimestamp", "2100-01-01T00:00:00Z")
        if exit_code == 0:
            condition(mpi_job, "Succeeded")
        else:
            condition(mpi_job, "Failed", "BackoffLimitExceeded/",
                      "Job has reached the specified backoff limit: ")

    # Pods that are to go are asked, or killed where they are given no time.
    def _delete_pods(self):
        for name, pod in list(self.api.pods.items()):
            if "deletionTimestamp" not in pod["metadata"]:
                continue
            kill = pod["metadata"].get("deletionGracePeriodSeconds") == 1
            process = self.processes.get(name)
            if self.stubborn and not kill and pod["status"]["phase"] == "Running":
                continue
            if process and process.poll() is None:
                if kill:
                    self._kill(process)
                elif not pod.get("asked"):
                    process.send_signal(signal.SIGTERM)
                    pod["asked"] = True
                continue
            del self.api.pods[name]

    @staticmethod
    def _kill(process):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)

    def launcher_runs(self):
        return wait_for(lambda: any(one.poll() is None for one in list(self.processes.values())),
                        "a launcher to run")
