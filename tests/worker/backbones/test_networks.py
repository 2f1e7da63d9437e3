"""Every network, as network_trace computes it, against PyTorch's own modules.

Two sets of random weights: rough ones, as they come, and smooth ones, with which no value lies near
a bend of its activation. Values agree closely with both. A gradient agrees closely with smooth ones
only: with rough ones, one value that rounding moves across a bend changes it by a percent.
"""

import copy
import functools
import os
import pathlib
import subprocess
import tempfile

import pytest
import reference_networks
import safetensors.torch
import torch

TRACE = pathlib.Path(os.environ["FR_BIN_DIR"]) / "network_trace"
EMBEDDING_SIZE = 32
IMAGES = 4  # the last batch norm takes its statistics of no more values than this

# A network with its own output; then what has an output or a gate of another kind.
CASES = [(name, None, False) for name in reference_networks.NAMES] + [
    ("r18", None, True),
    ("r18", "GAP", False),
    ("r18", "FC", False),
    ("r18", "GDC", True),
    ("mbf", "E", False),
    ("y1", "GAP", False),
    ("m1", "E", False),
    ("inception_resnet_v2", "GDC", False),
    ("densenet121", "GAP", False),
    ("dpn68", "FC", False),
]


def error(value, expected):
    """Of a whole tensor, relative."""
    value, expected = value.double(), expected.double()
    return float((value - expected).norm() / expected.norm())


class Weights:
    """A reference with its weights, and what it computes; both only once."""

    def __init__(self, case, directory, smooth):
        self.directory = pathlib.Path(directory)
        name, output, squeeze_excite = case
        self.arguments = ["--network", name, "--embedding-size", str(EMBEDDING_SIZE)]
        self.arguments += ["--output", output] if output else []
        self.arguments += ["--squeeze-excite"] if squeeze_excite else []
        generator = torch.Generator().manual_seed(3)
        self.images = torch.rand(IMAGES, 3, 112, 112, generator=generator) * 2 - 1
        self.embedding_gradients = torch.randn(IMAGES, EMBEDDING_SIZE, generator=generator)
        self.model = reference_networks.make(name, EMBEDDING_SIZE, output, squeeze_excite)
        reference_networks.randomize(self.model, seed=1)
        if smooth:
            reference_networks.avoid_kinks(self.model, self.images, seed=2)
        state = self.model.state_dict()
        safetensors.torch.save_file(
            {k: v.contiguous() for k, v in state.items() if not k.endswith("num_batches_tracked")},
            self.directory / "weights.safetensors",
        )
        safetensors.torch.save_file(
            {"images": self.images, "embedding_gradients": self.embedding_gradients},
            self.directory / "input.safetensors",
        )

    def trace(self, *arguments):
        """What network_trace computes."""
        out = self.directory / "trace.safetensors"
        command = [TRACE, *self.arguments, *arguments, "--no-randomness"]
        command += ["--weights", self.directory / "weights.safetensors"]
        command += ["--input", self.directory / "input.safetensors", "--out", out]
        subprocess.run(command, check=True, timeout=600)
        try:
            return safetensors.torch.load_file(out)
        finally:
            out.unlink()

    @functools.cached_property
    def evaluated(self):
        return reference_networks.trace(self.model.eval(), self.images)

    @functools.cached_property
    def trained(self):
        """Embedding, gradients and running statistics of one training step."""
        model = copy.deepcopy(self.model).train()
        embedding = model(self.images)
        embedding.backward(self.embedding_gradients)
        gradients = {
            name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        }
        buffers = {k: v for k, v in model.named_buffers() if not k.endswith("num_batches_tracked")}
        return embedding.detach(), gradients, buffers


def identify(case):
    name, output, squeeze_excite = case
    return "-".join([name] + ([output] if output else []) + (["se"] if squeeze_excite else []))


# A case at a time: its weights take up to a gigabyte.
@pytest.fixture(scope="module", params=CASES, ids=identify)
def rough(request):
    with tempfile.TemporaryDirectory() as directory:
        yield Weights(request.param, directory, smooth=False)


@pytest.fixture(scope="module", params=CASES, ids=identify)
def smooth(request):
    with tempfile.TemporaryDirectory() as directory:
        yield Weights(request.param, directory, smooth=True)


def group(tensors, kind):
    """Those under "kind:", without it."""
    return {k.removeprefix(kind): v for k, v in tensors.items() if k.startswith(kind)}


def test_every_layer_agrees(rough):
    _, expected = rough.evaluated
    values = group(rough.trace("--mode", "eval", "--path", "plain"), "value:")
    errors = {name: error(values[name], expected[name]) for name in values.keys() & expected.keys()}
    assert {name: e for name, e in errors.items() if not e < 1e-4} == {}
    # Nothing with weights has been passed over: pos_embed and mask_token are no modules.
    layers = {key.rpartition(".")[0] for key, _ in rough.model.named_parameters() if "." in key}
    assert layers - errors.keys() == set()


@pytest.mark.parametrize("path", ["plain", "fused", "script"])
def test_embedding_agrees(rough, path):
    expected, _ = rough.evaluated
    trace = rough.trace("--mode", "eval", "--path", path)
    assert error(trace["embedding"], expected) < 1e-4


def test_bf16_embedding_points_the_same_way(rough):
    expected, _ = rough.evaluated
    trace = rough.trace("--mode", "eval", "--path", "fused", "--precision", "bf16")
    cosines = torch.nn.functional.cosine_similarity(trace["embedding"].float(), expected)
    assert float(cosines.min()) > 0.99


def assert_gradients_agree(trace, expected, tolerance, floor):
    """`floor`, as a share of the largest gradient's norm, is what rounding leaves of gradients that
    are zero: those of biases that the next batch norm takes away."""
    gradients = group(trace, "gradient:")
    assert gradients.keys() == expected.keys()
    floor *= max(float(gradient.norm()) for gradient in expected.values())
    wrong = {
        name: (float((gradients[name] - gradient).norm()), float(gradient.norm()))
        for name, gradient in expected.items()
        if not (gradients[name] - gradient).norm() <= tolerance * gradient.norm() + floor
    }
    assert wrong == {}
    return floor


@pytest.mark.parametrize("path", ["plain", "fused"])
def test_training_step_agrees(smooth, path):
    embedding, gradients, buffers = smooth.trained
    trace = smooth.trace("--mode", "train", "--path", path)
    assert error(trace["embedding"], embedding) < 1e-4
    assert_gradients_agree(trace, gradients, tolerance=1e-3, floor=3e-6)
    statistics = group(trace, "buffer:")
    errors = {name: error(statistics[name], value) for name, value in buffers.items()}
    assert {name: e for name, e in errors.items() if not e < 1e-4} == {}


# Every parameter that can learn does: a gradient that is lost somewhere is far off.
@pytest.mark.parametrize("path", ["plain", "fused"])
def test_gradients_reach_every_parameter(rough, path):
    _, expected, _ = rough.trained
    trace = rough.trace("--mode", "train", "--path", path)
    floor = assert_gradients_agree(trace, expected, tolerance=0.1, floor=3e-6)
    learning = {name for name, gradient in expected.items() if gradient.norm() > 10 * floor}
    still = {name for name in learning if not trace["gradient:" + name].any()}
    assert still == set()
    # All but biases in front of a batch norm, and what --no-randomness leaves out.
    zero = expected.keys() - learning
    assert {name for name in zero if not name.endswith(".bias")} <= {"mask_token"}


def test_recomputing_changes_nothing(smooth):
    _, gradients, buffers = smooth.trained
    trace = smooth.trace("--mode", "train", "--path", "fused", "--recompute")
    assert_gradients_agree(trace, gradients, tolerance=1e-3, floor=3e-6)
    for name, value in buffers.items():  # updated once, not twice
        assert error(trace["buffer:" + name], value) < 1e-4, name
