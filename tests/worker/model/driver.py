"""Driving fr-model, and references for what it computes."""

import os
import pathlib
import subprocess

import numpy as np
import onnx
import onnxruntime
import reference_networks
import torch

BIN_DIR = pathlib.Path(os.environ["FR_BIN_DIR"])
EMBEDDING_SIZE = 64


def run(*arguments, fails=None):
    """fr-model; with `fails` it must end with that exit code, and its message is returned."""
    done = subprocess.run(
        [BIN_DIR / "fr-model", *map(str, arguments)], capture_output=True, text=True, timeout=600)
    if fails is None:
        assert done.returncode == 0, done.stderr
        return done.stdout
    assert done.returncode == fails, (done.returncode, done.stderr)
    assert done.stdout == ""
    for word in ("Traceback", "terminate called", "c10", "Exception raised from"):
        assert word not in done.stderr
    assert done.stderr.strip()
    return done.stderr


def error(value, expected):
    """Largest difference, relative to the largest value."""
    value, expected = np.asarray(value), np.asarray(expected)
    assert value.shape == expected.shape
    return float(np.abs(value - expected).max() / np.abs(expected).max())


def embed(model, paths, *arguments):
    out = pathlib.Path(paths[0]).parent / "embeddings.npy"
    run("embed", model, *paths, "-o", "npy", "--out", out, *arguments)
    return np.load(out)


def embed_plain(model, paths):
    """What the network itself computes."""
    return embed(model, paths, "--raw", "--no-mirror")


def normalise(embeddings):
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


def evaluate(model, pixels):
    """A reference's embeddings of pixels 0..255."""
    with torch.no_grad():
        return model.eval()((pixels - 127.5) / 127.5).numpy()


def onnx_session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def insightface_input(path, pixels):
    """As InsightFace's ArcFaceONNX finds out what a model takes: by the names of its first nodes."""
    names = [node.name for node in onnx.load(path).graph.node[:8]]
    subtracts = any(name.startswith(("Sub", "_minus")) for name in names)
    multiplies = any(name.startswith(("Mul", "_mul")) for name in names)
    mean, std = (0.0, 1.0) if subtracts and multiplies else (127.5, 127.5)
    return ((pixels - mean) / std).numpy().astype(np.float32)


class Network:
    """A reference with random weights, as a .pth file and as a model of ours."""

    def __init__(self, case, directory):
        self.name, self.output, self.squeeze_excite = case
        self.directory = directory
        self.module = reference_networks.make(self.name, EMBEDDING_SIZE, *case[1:])
        reference_networks.randomize(self.module, seed=1)
        self.pth = directory / "backbone.pth"
        torch.save(self.module.state_dict(), self.pth)
        self.model = directory / "model.safetensors"
        self.report = run("import", self.pth, self.model)
