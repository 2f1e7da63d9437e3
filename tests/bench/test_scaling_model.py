"""bench/scaling_model.py against a case computed by hand, and against what must hold."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))

import scaling_model as model  # noqa: E402

# Two nodes of two GPUs; round numbers, and no latencies.
PLAIN = model.Cluster(
    peak=1e12,
    network_share=1,
    half_batch=0,
    product_share=1,
    memory=1e9,
    gpus_per_node=2,
    nvlink=1e9,
    network=1e8,
    nvlink_latency=0,
    network_latency=0,
    launch=0,
)
JOB = model.Job(
    model.Network("small", parameters=1e6, multiply_adds=1e9),
    identities=1000,
    embedding_size=100,
    bucket=1e6,
)


def test_a_step_computed_by_hand():
    step = model.step(PLAIN, JOB, gpus=4, batch=10)
    assert step.backbone == pytest.approx(6e10 / 1e12)
    # 250 rows of 100: 5 x 4 bytes each from memory take longer than 8 million operations.
    assert step.head == pytest.approx(500e-6)
    # 40 rows of 412 bytes: 1/2 x 1/2 of them between the nodes, 1/2 from the neighbour; three
    # all-reduces of 320 bytes; 40 rows of 400 bytes back.
    assert step.exchange == pytest.approx(
        (41.2e-6 + 8.24e-6) + 3 * 2 * (0.8e-6 + 0.16e-6) + (40e-6 + 8e-6)
    )
    # 4 MB: 2 x (1/2 x 2 MB at 1e8 + 1/2 x 4 MB at 1e9); all but a bucket's quarter is hidden.
    assert step.gradients == pytest.approx(0.024)
    assert step.hidden == pytest.approx(0.018)
    assert step.update == pytest.approx(0.02)
    assert step.total == pytest.approx(0.06 + 0.0005 + 103.2e-6 + 0.006 + 0.02)


def test_a_ring_of_four():
    assert model.ring(1e6, 4, 1e-5, 1e-9) == pytest.approx(6e-5 + 1.5e-3)


def test_one_gpu_sends_nothing():
    step = model.step(model.Cluster(), JOB, gpus=1, batch=10)
    assert step.exchange == step.gradients == step.hidden == 0


def test_half_the_bytes_take_half_the_time_of_a_slow_link():
    half = model.step(PLAIN, model.dataclasses.replace(JOB, gradient_bytes=2), 4, 10)
    assert half.gradients == pytest.approx(0.012)


def test_without_overlap_nothing_is_hidden():
    assert model.step(PLAIN, model.dataclasses.replace(JOB, overlap=False), 4, 10).hidden == 0


def test_it_prints_its_tables_and_takes_other_constants():
    program = [sys.executable, str(ROOT / "bench" / "scaling_model.py")]
    printed = subprocess.run(program, capture_output=True, text=True, check=True).stdout
    assert printed.count("| 512 | 128 |") == 3
    # The tables that the documentation shows are these.
    for line in printed.splitlines():
        assert line in (ROOT / "docs" / "scaling.md").read_text()
    slower = subprocess.run(
        [*program, "--set", "network=1e9"], capture_output=True, text=True, check=True
    ).stdout
    assert slower != printed
    refused = subprocess.run([*program, "--set", "speed=1"], capture_output=True, text=True)
    assert refused.returncode != 0 and "no constant speed" in refused.stderr
