"""The HTTP API against its own schema, and against whoever means it no good."""

import http.client
import json
import socket

import jsonschema
import pytest

from cluster import wait_for

JOB = """\
name: waits
resources: {{workers: 3}}
data: {{train: {train}, validation: [lfw], batch_size: 8}}
"""


@pytest.fixture(scope="module")
def waiting_job(cluster, stand_in_faces, tmp_path_factory):
    path = tmp_path_factory.mktemp("job") / "job.yaml"
    path.write_text(JOB.format(train=stand_in_faces))
    return cluster.submit(path)


@pytest.fixture(scope="module")
def trained_job(cluster, job_file):
    job_id = cluster.submit(job_file)
    job = cluster.wait_until_ended(job_id, seconds=400)
    assert job["state"] == "COMPLETED", job["reason"]
    return job_id


@pytest.fixture(scope="module")
def openapi(cluster):
    return cluster.get("/openapi.json")


def check(openapi, template, answer, status="200"):
    """Holds an answer to the schema that the API gives for it."""
    response = openapi["paths"][template]["get"]["responses"][status]
    schema = {**response["content"]["application/json"]["schema"],
              "components": openapi["components"]}
    jsonschema.Draft202012Validator(schema).validate(answer)


def every_path(job_id):
    job = "/api/v1/jobs/{id}"
    for template in ("/healthz", "/readyz", "/metrics", "/api/v1/jobs", job, f"{job}/metrics", f"{job}/logs",
                     f"{job}/checkpoints", f"{job}/shards", "/api/v1/nodes",
                     "/api/v1/users"):
        yield template, template.replace("{id}", job_id)


def check_every_path(cluster, openapi, job_id):
    checked = set()
    for template, path in every_path(job_id):
        status, headers, body = cluster.request(path)
        assert status == 200, (path, body)
        if template == "/metrics":  # in Prometheus' format, not in ours
            (media_type,) = openapi["paths"][template]["get"]["responses"]["200"]["content"]
            assert headers["Content-Type"].split(";")[0] == media_type
            body.decode()
        else:
            assert headers["Content-Type"] == "application/json"
            check(openapi, template, json.loads(body))
        checked.add(template)
    assert checked == set(openapi["paths"])


def test_answers_fit_their_schema_for_a_job_that_waits(cluster, openapi, waiting_job):
    check_every_path(cluster, openapi, waiting_job)


def test_answers_fit_their_schema_for_a_machine_with_gpus(gpu_cluster, openapi):
    nodes = gpu_cluster.get("/nodes")
    assert len(nodes["nodes"][0]["gpu_list"]) == 2
    check(openapi, "/api/v1/nodes", nodes)


@pytest.mark.worker
def test_answers_fit_their_schema_for_a_job_that_has_run(cluster, openapi, trained_job):
    check_every_path(cluster, openapi, trained_job)


@pytest.mark.worker
def test_what_a_job_that_has_run_leaves(cluster, trained_job):
    job = cluster.get(f"/jobs/{trained_job}")
    states = [transition["to"] for transition in job["transitions"]]
    assert states == ["PENDING", "STARTING", "RUNNING", "COMPLETED"]
    assert job["submitted_ms"] <= job["started_ms"] <= job["ended_ms"]
    steps = job["progress"]["total_steps"]

    series = {one["name"]: one for one in cluster.get(f"/jobs/{trained_job}/metrics")["series"]}
    assert series["train/loss"]["steps"] == list(range(1, steps + 1))
    assert series["val/synth/accuracy"]["steps"][0] == 0
    assert job["validation"] == [{"set": "synth", "step": steps,
                                  "accuracy": series["val/synth/accuracy"]["values"][-1]}]
    # Only what is asked for, only what is new.
    some = cluster.get(f"/jobs/{trained_job}/metrics?names=train/lr,train/loss&after_step=3")
    assert [one["name"] for one in some["series"]] == ["train/loss", "train/lr"]
    assert all(one["steps"] == list(range(4, steps + 1)) for one in some["series"])
    # All below a name.
    below = cluster.get(f"/jobs/{trained_job}/metrics?names=val/synth/")["series"]
    assert [one["name"] for one in below] == [name for name in series if name.startswith("val/")]

    checkpoints = cluster.get(f"/jobs/{trained_job}/checkpoints")["checkpoints"]
    assert checkpoints[-1]["step"] == steps
    assert checkpoints[-1]["bytes"] == sum(file["bytes"] for file in checkpoints[-1]["files"])
    plan = cluster.get(f"/jobs/{trained_job}/shards")["plans"][-1]
    assert [(one["begin"], one["end"]) for one in plan["ranges"]] == [(0, 4), (4, 7)]

    # The log in pieces is the log as a whole.
    # The job has ended when the workers have said so; their processes end a moment later.
    whole = wait_for(lambda: (log := cluster.get(f"/jobs/{trained_job}/logs"))["job_ended"] and log,
                     "the end of the log")
    assert whole["text"]
    pieces, offset = "", 0
    while True:
        piece = cluster.get(f"/jobs/{trained_job}/logs?offset={offset}&max_bytes=1000")
        if not piece["text"]:
            break
        pieces, offset = pieces + piece["text"], piece["next_offset"]
    assert pieces == whole["text"]
    assert whole["text"].endswith(cluster.get(f"/jobs/{trained_job}/logs?offset=-20")["text"])


def test_the_list_is_latest_first_and_can_be_cut(cluster, waiting_job, stand_in_faces, tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text(JOB.format(train=stand_in_faces))
    later = cluster.submit(path)
    jobs = cluster.get("/jobs")
    numbers = [job["number"] for job in jobs["jobs"]]
    assert numbers == sorted(numbers, reverse=True)
    assert sum(jobs["counts"].values()) == len(numbers) and not jobs["more"]
    cut = cluster.get("/jobs?limit=1")
    assert [job["id"] for job in cut["jobs"]] == [later]
    assert cut["counts"] == jobs["counts"] and cut["more"]
    rest = cluster.get(f"/jobs?before={cut['jobs'][0]['number']}")
    assert [job["number"] for job in rest["jobs"]] == numbers[1:]
    # By state and user, too.
    waiting = cluster.get("/jobs?state=PENDING")["jobs"]
    assert later in [job["id"] for job in waiting]
    assert all(job["state"] == "PENDING" for job in waiting)
    assert cluster.get("/jobs?user=nobody-at-all")["jobs"] == []


@pytest.mark.parametrize("path", [
    "/api/v1/jobs/job-999", "/api/v1/jobs/job-999/metrics", "/api/v1/jobs/job-999/logs",
    "/api/v1/jobs/job-999/checkpoints", "/api/v1/jobs/job-999/shards", "/api/v1/jobs/%00",
    "/api/v1/jobs/job-99999999999999999999999", "/api/v1/jobs/-1", "/api/v1/none",
    "/api/v1/jobs/", "/none.html", "/index.html/", "/api/v1/jobs/job-1/none",
])
def test_what_is_not_there_is_404_in_json(cluster, openapi, waiting_job, path):
    status, headers, body = cluster.request(path)
    assert (status, headers["Content-Type"]) == (404, "application/json"), body
    check(openapi, "/api/v1/jobs/{id}", json.loads(body), "404")
    assert json.loads(body)["error"]["code"] == "NOT_FOUND"


@pytest.mark.parametrize("query", [
    "metrics?after_step=soon", "metrics?after_step=-2", "metrics?after_step=1e3",
    "metrics?after_step=99999999999999999999", "metrics?after_step=", "logs?attempt=0",
    "logs?attempt=first", "logs?offset=1.5", "logs?max_bytes=0", "logs?max_bytes=99999999999",
])
def test_a_wrong_parameter_is_400_and_named(cluster, openapi, waiting_job, query):
    status, _, body = cluster.request(f"/api/v1/jobs/{waiting_job}/{query}")
    assert status == 400, body
    error = json.loads(body)
    check(openapi, "/api/v1/jobs/{id}/logs", error, "400")
    assert query.split("?")[1].split("=")[0] in error["error"]["message"]


def test_head_is_get_without_the_body(cluster, waiting_job):
    for path in ("/", "/style.css", "/api/v1/jobs", f"/api/v1/jobs/{waiting_job}"):
        status, headers, body = cluster.request(path, method="HEAD")
        _, _, whole = cluster.request(path)
        assert (status, body) == (200, b"")
        assert int(headers["Content-Length"]) == len(whole)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_nothing_can_be_changed_over_http(cluster, waiting_job, method):
    status, headers, body = cluster.request(
        f"/api/v1/jobs/{waiting_job}", method=method, body=b'{"state": "CANCELLED"}',
        headers={"Content-Type": "application/json"})
    assert status == 405 and headers["Allow"] == "GET, HEAD"
    assert "frctl" in json.loads(body)["error"]["message"]
    assert cluster.get(f"/jobs/{waiting_job}")["state"] == "PENDING"


def test_the_page_allows_nothing_but_its_own_files(cluster):
    status, headers, body = cluster.request("/")
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy
    assert "unsafe" not in policy and "http" not in policy
    assert b"http://" not in body and b"https://" not in body
    for path, media_type in (("/main.js", "text/javascript; charset=utf-8"),
                             ("/chart.min.js", "text/javascript; charset=utf-8"),
                             ("/style.css", "text/css; charset=utf-8"),
                             ("/favicon.svg", "image/svg+xml")):
        status, headers, _ = cluster.request(path)
        assert (status, headers["Content-Type"]) == (200, media_type)
        assert headers["X-Content-Type-Options"] == "nosniff"
        # A browser that has the file already does not get it again.
        again, _, body = cluster.request(path, headers={"If-None-Match": headers["ETag"]})
        assert (again, body) == (304, b"")


@pytest.mark.parametrize("path", [
    "/../../../../etc/passwd", "/..%2f..%2f..%2fetc%2fpasswd", "/%2e%2e/%2e%2e/etc/passwd",
    "//etc/passwd", "/style.css/../../coordinator.yaml", "/api/v1/jobs/..%2f..%2fcoordinator.yaml",
    "/style%00.css", "/styleXcss",
])
def test_no_path_leads_out(cluster, path):
    host = cluster.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.putrequest("GET", path, skip_host=False)
    connection.endheaders()
    response = connection.getresponse()
    body = response.read()
    assert response.status in (400, 404), body
    assert b"root:" not in body and b"state_dir" not in body
    json.loads(body)
    connection.close()


def test_garbage_leaves_the_server_standing(cluster):
    host, port = cluster.url.removeprefix("http://").split(":")
    for garbage in (b"\x00\xff\xfe\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
                    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
                    b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
                    b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\nx", b""):
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            try:
                connection.sendall(garbage)
                connection.shutdown(socket.SHUT_WR)
                answer = connection.recv(65536)
                assert b" 200 " not in answer.split(b"\r\n")[0]
            except ConnectionError:
                pass  # refused half-way: as good an answer as any
    assert cluster.get("/jobs")["jobs"] is not None


# A second coordinator on the same port is told so, instead of taking half of the requests.
def test_a_port_is_not_shared(cluster, tmp_path):
    from cluster import Cluster
    second = Cluster(tmp_path / "second")
    second.config.write_text(second.config.read_text().replace(
        second.url.removeprefix("http://"), cluster.url.removeprefix("http://")))
    done = second.run("fr-coordinator", "--config", second.config)
    assert done.returncode == 3, done.stderr
    assert cluster.url.removeprefix("http://") in done.stderr
