"""MTCNN, against facenet-pytorch: its networks, and what they find."""

import json
import os
import pathlib
import subprocess

import numpy as np
import PIL.Image
import pytest
import sklearn.datasets
import torch

import reference_mtcnn
from conftest import BIN_DIR


def trace(*arguments):
    done = subprocess.run([BIN_DIR / "mtcnn_trace", *map(str, arguments)], capture_output=True,
                          text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_same_faces(pictures, directory):
    """The same boxes in the same order, within half a pixel; returns how many."""
    paths = []
    for number, picture in enumerate(pictures):
        paths.append(directory / f"{number}.png")
        picture.save(paths[-1])
    lines = trace("detect", reference_mtcnn.WEIGHTS, *paths).splitlines()
    count = 0
    for picture, line in zip(pictures, lines, strict=True):
        faces = json.loads(line)["faces"]
        boxes, points = reference_mtcnn.detect(picture)
        assert len(faces) == len(boxes)
        for face, box, five in zip(faces, boxes, points):
            assert np.abs(np.array(face["box"]) - box[:4]).max() < 0.5
            assert abs(face["score"] - box[4]) < 1e-4
            assert np.abs(np.array(face["points"]) - five).max() < 0.5
        count += len(faces)
    return count


@pytest.mark.parametrize("network, height, width, count", [
    ("pnet", 12, 12, 1), ("pnet", 37, 53, 2), ("pnet", 120, 91, 1), ("rnet", 24, 24, 1),
    ("rnet", 24, 24, 9), ("onet", 48, 48, 1), ("onet", 48, 48, 7)])
def test_networks_compute_the_same(network, height, width, count, tmp_path):
    generator = torch.Generator().manual_seed(height + count)
    images = torch.rand(count, 3, height, width, generator=generator) * 2 - 1
    (tmp_path / "input").write_bytes(images.numpy().tobytes())
    trace("network", reference_mtcnn.WEIGHTS, network, tmp_path / "input", height, width)
    expected = reference_mtcnn.NETWORKS[network](images)
    outputs = {"face": expected[-1][:, 1], "offsets": expected[0]}
    if network == "onet":
        outputs["points"] = expected[1]
    for name, values in outputs.items():
        got = np.fromfile(tmp_path / f"input.{name}", np.float32).reshape(values.shape)
        assert np.abs(got - values.numpy()).max() < 1e-4, name


def test_finds_the_same_drawn_faces(photograph, drawn_faces, tmp_path):
    grey = photograph.convert("L").convert("RGB")
    turned = photograph.rotate(20)
    small = photograph.resize((150, 107))
    assert assert_same_faces([photograph, grey, turned, small, *drawn_faces[:6]], tmp_path) >= 10


def test_finds_no_face_where_there_is_none(tmp_path):
    china, flower = map(PIL.Image.fromarray, sklearn.datasets.load_sample_images().images)
    noise = PIL.Image.fromarray(np.random.default_rng(1).integers(0, 256, (90, 120, 3), np.uint8))
    nothing = PIL.Image.new("RGB", (200, 100), (127, 127, 127))
    tiny = [PIL.Image.new("RGB", size) for size in ((1, 1), (19, 300), (20, 20))]
    assert assert_same_faces([china, flower, noise, nothing, *tiny], tmp_path) == 0


def test_finds_the_same_real_faces(tmp_path):
    folder = os.environ.get("FR_FACES")
    if not folder:
        pytest.skip("FR_FACES names no folder of photographs: real faces are not compared")
    paths = sorted(pathlib.Path(folder).glob("*/*"))[::8]
    pictures = [PIL.Image.open(path).convert("RGB") for path in paths]
    assert assert_same_faces(pictures, tmp_path) >= len(pictures) // 2


def test_missing_and_foreign_weights_are_named(tmp_path):
    def message():
        done = subprocess.run([BIN_DIR / "mtcnn_trace", "detect", tmp_path], capture_output=True,
                              text=True)
        assert done.returncode == 1
        return done.stderr

    assert "pnet.pt" in message() and "get-mtcnn" in message() and "pip download" in message()
    (tmp_path / "pnet.pt").write_bytes((reference_mtcnn.WEIGHTS / "rnet.pt").read_bytes())
    assert "conv1.weight of shape [10, 3, 3, 3]" in message()
    (tmp_path / "pnet.pt").write_bytes(b"nonsense")
    assert "pnet.pt" in message()
