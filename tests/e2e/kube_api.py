"""An API server and an MPI Operator to test against, as strict as the real ones or stricter.

Every request is checked: its method, path, query, headers and token; whether the Role of
k8s/base/rbac.yaml grants it; MPIJobs against mpijob_schema.yaml, their pods against Kubernetes' own
schema. What breaks the contract is refused as Kubernetes would, and kept in `violations`. The
operator's part (kube_operator.py) makes pods of MPIJobs and runs the launcher's command here.
"""

import base64
import copy
import http.server
import json
import re
import ssl
import subprocess
import threading
import urllib.parse
from pathlib import Path

import jsonschema
import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parents[2]
MPIJOBS = "/apis/kubeflow.org/v2beta1/namespaces/{}/mpijobs"
PODS = "/api/v1/namespaces/{}/pods"
KUBERNETES = kubernetes_validate.latest_version()
SCHEMA = yaml.safe_load((Path(__file__).parent / "mpijob_schema.yaml").read_text())


def granted(rbac_file=ROOT / "k8s/base/rbac.yaml"):
    """{(group, resource, verb)} that its one Role grants."""
    roles = [one for one in yaml.safe_load_all(rbac_file.read_text()) if one["kind"] == "Role"]
    assert len(roles) == 1
    return {(group, resource, verb) for rule in roles[0]["rules"] for group in rule["apiGroups"]
            for resource in rule["resources"] for verb in rule["verbs"]}


def check_pod(template, restart_policy):
    """Raises kubernetes_validate.ValidationError for what is no pod."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "checked"},
           "spec": {**template["spec"], "restartPolicy": restart_policy}}
    kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def check_mpi_job(mpi_job):
    """Raises a ValidationError for what the operator or Kubernetes would not take."""
    jsonschema.validate(mpi_job, SCHEMA, cls=jsonschema.Draft202012Validator)
    for replica in mpi_job["spec"]["mpiReplicaSpecs"].values():
        check_pod(replica["template"], replica["restartPolicy"])


class Refused(Exception):
    def __init__(self, status, reason, message, headers=None):
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.headers = headers or {}


class KubeApi:
    """Listens on loopback from start() to stop()."""

    def __init__(self, directory, namespace="lab"):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.namespace = namespace
        self.lock = threading.RLock()
        self.mpi_jobs = {}  # by name
        self.pods = {}
        self.created = []  # names of all MPIJobs that ever were
        self.requests = []  # (verb, resource, name)
        self.violations = []
        self.granted = granted()
        self.used = set()
        self.page_size = 500    # pages are at most so large, whatever is asked for
        self.fault = None       # called with (verb, resource, name): raises Refused to refuse
        self.on_created = None  # called with the MPIJob before the answer leaves
        self.version = 0
        self.server = None
        self.rotate_token("token-1")
        self._make_certificate()

    # What a coordinator is configured with.
    def config(self, mount_path):
        return {
            "api": self.url, "namespace": self.namespace, "image": "registry.example/fr:test",
            "token_file": str(self.directory / "token"),
            "ca_file": str(self.directory / "ca.crt"),
            "volume_claim": "shared", "mount_path": str(mount_path)}

    def rotate_token(self, token):
        self.token = token
        fresh = self.directory / "token.new"
        fresh.write_text(token)
        fresh.rename(self.directory / "token")

    def _make_certificate(self):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
             "-nodes", "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=kube",
             "-addext", "subjectAltName=IP:127.0.0.1"],
            cwd=self.directory, check=True, capture_output=True)

    def start(self, port=0):
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments):
                pass

            def answer(self):
                api._serve(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.directory / "ca.crt", self.directory / "ca.key")
        self.server.socket = context.wrap_socket(
            self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self.server.server_address[1]
        self.url = f"https://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self):
        """Nobody listens any more; what is kept stays, and start(port) goes on with it."""
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    # -- requests ----------------------------------------------------------------------------

    def _serve(self, handler):
        length = int(handler.headers.get("Content-Length") or 0)
        body = handler.rfile.read(length) if length else b""
        try:
            status, answer, headers = *self._dispatch(handler, body), {}
        except Refused as refused:
            status, headers = refused.status, refused.headers
            answer = {"kind": "Status", "apiVersion": "v1", "status": "Failure",
                      "reason": refused.reason, "message": str(refused), "code": refused.status}
        except ConnectionAbortedError:  # a fault that drops the connection
            handler.close_connection = True
            return
        text = json.dumps(answer).encode()
        try:
            handler.send_response(status)
            for name, value in {**headers, "Content-Type": "application/json",
                                "Content-Length": str(len(text))}.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(text)
        except OSError:
            handler.close_connection = True  # who asked is gone

    def _violation(self, text):
        self.violations.append(text)
        return Refused(400, "BadRequest", text)

    def _dispatch(self, handler, body):
        url = urllib.parse.urlsplit(handler.path)
        query = urllib.parse.parse_qs(url.query, keep_blank_values=True, strict_parsing=bool(url.query))
        group, resource, name = self._resource(url.path)
        verb = self._verb(handler.command, name)
        with self.lock:
            self.requests.append((verb, resource, name))
            if handler.headers.get("Authorization") != f"Bearer {self.token}":
                raise Refused(401, "Unauthorized", "Unauthorized")
            if (group, resource, verb) not in self.granted:
                raise Refused(403, "Forbidden", f"{resource} is forbidden: may not {verb}")
            self.used.add((group, resource, verb))
        content = self._body(handler, body, verb)
        if self.fault:
            self.fault(verb, resource, name)
        self._check_query(verb, query)
        if verb == "create":
            return self._create(content)
        with self.lock:
            store = self.mpi_jobs if resource == "mpijobs" else self.pods
            if verb == "list":
                return self._list(store, group, query)
            if verb == "get":
                return 200, self._find(store, resource, name)
            if verb == "delete":
                return self._delete(self._find(store, resource, name), content)
            return self._delete_pods(content, query)

    def _resource(self, path):
        for group, resource, collection in (("kubeflow.org", "mpijobs", MPIJOBS), ("", "pods", PODS)):
            found = re.fullmatch(re.escape(collection.format(self.namespace)) + "(?:/([a-z0-9-]+))?",
                                 path)
            if found:
                return group, resource, found[1]
        raise self._violation(f"{path}: no such path")

    def _verb(self, method, name):
        verbs = {("GET", False): "list", ("GET", True): "get", ("POST", False): "create",
                 ("DELETE", True): "delete", ("DELETE", False): "deletecollection"}
        verb = verbs.get((method, name is not None))
        if not verb:
            raise self._violation(f"{method}: not for {name or 'a collection'}")
        return verb

    def _body(self, handler, body, verb):
        if "application/json" not in handler.headers.get("Accept", ""):
            raise self._violation("Accept is not application/json")
        if not body:
            if verb == "create":
                raise self._violation("create without a body")
            return None
        if verb in ("get", "list"):
            raise self._violation(f"{verb} with a body")
        if handler.headers.get("Content-Type") != "application/json":
            raise self._violation("Content-Type is not application/json")
        return json.loads(body)

    def _check_query(self, verb, query):
        allowed = {"list": {"labelSelector", "limit", "continue"},
                   "deletecollection": {"labelSelector"}}.get(verb, set())
        if set(query) - allowed:
            raise self._violation(f"{verb} with {sorted(set(query) - allowed)}")
        if verb in ("list", "deletecollection") and "labelSelector" not in query:
            raise self._violation(f"{verb} of everything: that is others' too")

    def _create(self, mpi_job):
        with self.lock:
            try:
                check_mpi_job(mpi_job)
            except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
                self.violations.append(error.message)
                raise Refused(422, "Invalid", error.message) from error
            stored = self.store(mpi_job)
        if self.on_created:
            self.on_created(stored)
        return 201, stored

    def store(self, mpi_job):
        """As if it had been posted just now."""
        with self.lock:
            name = mpi_job["metadata"]["name"]
            if name in self.mpi_jobs:
                raise Refused(409, "AlreadyExists", f'mpijobs "{name}" already exists')
            stored = copy.deepcopy(mpi_job)
            self.version += 1
            stored["metadata"] |= {"namespace": self.namespace, "uid": f"uid-{self.version}",
                                   "resourceVersion": str(self.version)}
            self.mpi_jobs[name] = stored
            self.created.append(name)
            return copy.deepcopy(stored)

    def _find(self, store, resource, name):
        if name not in store:
            raise Refused(404, "NotFound", f'{resource} "{name}" not found')
        return store[name]

    def _list(self, store, group, query):
        selected = self._selected(store, query["labelSelector"][0])
        limit = min(int(query["limit"][0]), self.page_size)
        start = int(base64.b64decode(query["continue"][0])) if "continue" in query else 0
        page = selected[start:start + limit]
        metadata = {"resourceVersion": str(self.version)}
        if start + limit < len(selected):
            metadata["continue"] = base64.b64encode(str(start + limit).encode()).decode()
        kind = "MPIJobList" if group else "PodList"
        return 200, {"kind": kind, "metadata": metadata, "items": copy.deepcopy(page)}

    def _selected(self, store, selector):
        wanted = dict(part.split("=") for part in selector.split(","))
        return [store[name] for name in sorted(store)
                if wanted.items() <= store[name]["metadata"].get("labels", {}).items()]

    def _options(self, options, allowed):
        if not isinstance(options, dict) or options.get("kind") != "DeleteOptions":
            raise self._violation("delete without DeleteOptions")
        if set(options) - {"apiVersion", "kind"} - allowed:
            raise self._violation(f"delete with {sorted(options)}")

    def _delete(self, mpi_job, options):
        self._options(options, {"propagationPolicy"})
        # In the background the MPIJob would be gone while its pods still run.
        if options.get("propagationPolicy") != "Foreground":
            raise self._violation("an MPIJob is not deleted in the foreground")
        mpi_job["metadata"].setdefault("deletionTimestamp", "2100-01-01T00:00:00Z")
        return 200, mpi_job

    def _delete_pods(self, options, query):
        self._options(options, {"gracePeriodSeconds"})
        if options["gracePeriodSeconds"] < 1:
            raise self._violation("pods are gone before their processes are")
        for pod in self._selected(self.pods, query["labelSelector"][0]):
            pod["metadata"]["deletionTimestamp"] = "2100-01-01T00:00:00Z"
            pod["metadata"]["deletionGracePeriodSeconds"] = options["gracePeriodSeconds"]
        return 200, {"kind": "Status", "status": "Success"}
