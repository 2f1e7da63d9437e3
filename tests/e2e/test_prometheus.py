"""A real Prometheus, Debian's, over a real coordinator."""

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from cluster import free_port, wait_for

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def program(name):
    path = shutil.which(name)
    assert path, f"{name} is not here: install the Debian package prometheus"
    return path


def promtool(*arguments, **options):
    done = subprocess.run([program("promtool"), *map(str, arguments)], capture_output=True,
                          text=True, timeout=60, check=False, **options)
    assert done.returncode == 0 and not done.stderr.strip(), done.stdout + done.stderr


def page(cluster):
    status, headers, body = cluster.request("/metrics")
    assert status == 200, body
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return body.decode()


class Prometheus:
    """configs/prometheus.yaml as it is, but for the address and a shorter interval."""

    def __init__(self, directory, cluster):
        text = (CONFIGS / "prometheus.yaml").read_text()
        for wrong, right in (("127.0.0.1:7080", cluster.url.removeprefix("http://")),
                             ("scrape_interval: 15s", "scrape_interval: 1s"),
                             ("prometheus-alerts.yaml", str(CONFIGS / "prometheus-alerts.yaml"))):
            assert wrong in text
            text = text.replace(wrong, right)
        config = directory / "prometheus.yaml"
        config.write_text(text)
        address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{address}"
        self.log = directory / "prometheus.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [program("prometheus"), f"--config.file={config}",
                 f"--storage.tsdb.path={directory / 'data'}", f"--web.listen-address={address}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def query(self, expression):
        """{labels without __name__ as a sorted tuple: value} of an instant query."""
        assert self.process.poll() is None, self.log.read_text()
        query = urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/query?{query}", timeout=10) as answer:
                result = json.load(answer)["data"]["result"]
        except (urllib.error.URLError, ConnectionError):
            return {}  # not up yet
        return {tuple(sorted((name, value) for name, value in one["metric"].items()
                             if name not in ("__name__", "instance", "job"))): float(one["value"][1])
                for one in result}

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=60)


@pytest.fixture
def prometheus(cluster, tmp_path):
    prometheus = Prometheus(tmp_path, cluster)
    yield prometheus
    prometheus.stop()


def test_the_examples_are_valid():
    promtool("check", "config", CONFIGS / "prometheus.yaml")
    promtool("test", "rules", Path(__file__).parent / "prometheus_rules.yaml")


def test_a_cluster_without_jobs(empty_cluster):
    text = page(empty_cluster)
    promtool("check", "metrics", input=text)
    assert 'fr_jobs{state="RUNNING"} 0' in text
    assert 'fr_node_slots{node="localhost"} 2' in text
    assert 'fr_node_slots_used{node="localhost"} 0' in text


# What commands ask is counted by name and result, pages by their status.
def test_requests_are_counted(empty_cluster):
    assert empty_cluster.run("frctl", "jobs").returncode == 0
    assert empty_cluster.run("frctl", "show", "7").returncode == 1
    empty_cluster.request("/none")
    text = page(empty_cluster)
    assert 'fr_rpc_requests_total{method="list_jobs",code="OK"} 1' in text
    assert 'fr_rpc_requests_total{method="get_job",code="NOT_FOUND"} 1' in text
    # An answer is counted once it has been sent, which the client may see first.
    wait_for(lambda: 'fr_http_requests_total{method="GET",code="404"} 1' in page(empty_cluster),
             "the request for nothing to be counted")


# While it runs, and for a while after its end, every curve's last value is there.
@pytest.mark.worker
def test_prometheus_scrapes_a_job(cluster, prometheus, job_file):
    job_id = cluster.submit(job_file)
    labels = (("job_id", job_id), ("job_name", "tiny"))
    wait_for(lambda: prometheus.query("fr_train_loss").get(labels), "a loss in Prometheus", 300)
    job = cluster.wait_until_ended(job_id)
    assert job["state"] == "COMPLETED", job["reason"]
    promtool("check", "metrics", input=page(cluster))

    series = {one["name"]: one["values"][-1]
              for one in cluster.get(f"/jobs/{job_id}/metrics")["series"]}
    wait_for(lambda: prometheus.query("fr_job_state == 1") ==
             {(*labels, ("state", "COMPLETED")): 1}, "the job's end in Prometheus")
    assert prometheus.query("fr_train_loss") == {labels: series["train/loss"]}
    assert prometheus.query("fr_train_learning_rate") == {labels: series["train/lr"]}
    assert prometheus.query("fr_validation_accuracy") == {
        (*labels, ("set", "synth")): series["val/synth/accuracy"]}
    steps = job["progress"]["total_steps"]
    assert prometheus.query("fr_job_step / fr_job_last_step") == {labels: 1.0}
    assert prometheus.query("fr_job_step") == {labels: steps}
    assert prometheus.query("up") == {(): 1}
    assert prometheus.query('fr_rpc_requests_total{method="submit_job"}')

    # Every curve that the worker reports has a family of its own.
    assert not re.search(r"^fr_job_metric\{", page(cluster), re.M)
    # A coordinator that was killed knows the last values from its database.
    before = page(cluster)
    cluster.kill()
    cluster.start()
    losses = lambda text: re.findall(r"^fr_(?:train|validation)_.*$", text, re.M)
    assert losses(page(cluster)) == losses(before) != []
