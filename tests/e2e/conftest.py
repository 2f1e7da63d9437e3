import subprocess

import pytest

from cluster import BIN_DIR, FAKE_NVML, Cluster


def pytest_configure(config):
    config.addinivalue_line("markers", "worker: needs fr-worker, which needs LibTorch")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Four slots, of which a user may have two: who asks for three waits, and holds up nobody."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), slots=4,
                      config="limits: {max_workers: 2}\n")
    try:
        yield cluster.start()
    finally:
        cluster.stop()


@pytest.fixture
def empty_cluster(tmp_path):
    cluster = Cluster(tmp_path / "cluster")
    try:
        yield cluster.start()
    finally:
        cluster.stop()


@pytest.fixture
def gpu_cluster(tmp_path, monkeypatch):
    """Its machine seems to have two GPUs."""
    monkeypatch.setenv("FR_NVML_LIBRARY", str(FAKE_NVML))
    cluster = Cluster(tmp_path / "gpu-cluster")
    try:
        yield cluster.start()
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def faces(tmp_path_factory):
    """A training set of few synthetic people, with a verification set `synth`."""
    directory = tmp_path_factory.mktemp("faces")
    subprocess.run(
        [BIN_DIR / "fr-data", "synth", directory, "--identities", "7", "--images", "12",
         "--seed", "1", "--holdout", "4", "--pairs", "20"],
        check=True, capture_output=True, text=True)
    return directory


@pytest.fixture(scope="session")
def job_file(faces, tmp_path_factory):
    """Ten steps of a small network on two workers: validation, checkpoints, all of it."""
    path = tmp_path_factory.mktemp("job") / "job.yaml"
    path.write_text(f"""\
# <img src=x onerror="document.title='hacked'">
name: tiny
resources: {{workers: 2}}
data: {{train: {faces}, validation: [synth], batch_size: 4}}
model: {{network: mbf, embedding_size: 32}}
loss: {{margin: 0.3, scale: 16}}
optimizer: {{lr: 0.05}}
train: {{epochs: 1, validate_every: 5, log_every: 1}}
checkpoint: {{every: 5, keep: 2, keep_best: synth}}
""")
    return path


@pytest.fixture(scope="session")
def stand_in_faces(tmp_path_factory):
    """A directory with the names of a training set, for what never looks inside."""
    directory = tmp_path_factory.mktemp("stand-in")
    (directory / "property").write_text("85742,112,112\n")
    (directory / "train.idx").write_text("0\t0\n" * (85742 + 1 + 1000))
    for name in ("train.rec", "lfw.bin"):
        (directory / name).write_bytes(b"\0" * 64)
    return directory
