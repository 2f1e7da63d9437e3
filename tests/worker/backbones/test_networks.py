"""Every network, as network_trace computes it, against PyTorch's own modules.

Two sets of random weights: rough ones, as they come, and smooth ones, with which no value lies near
a bend of its activation. Values agree closely with both. A gradient agrees closely with smooth ones
only: with rough ones, one value that rounding moves across a bend changes it by a percent. So it is
with two values of a max pool's window that lie near each other, smooth or not.

Of large networks, whose families have a smaller one, only every layer, the fused embedding and the
fused gradients with rough weights are compared; with FR_TEST_NETWORKS=all, everything is.
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


# Their families have a smaller one.
LARGE = {"r34", "r50", "r100", "r200", "mbf_large", "densenet161", "densenet169", "densenet201",
         "dpn92", "vit_s", "vit_b", "vit_l"}
ALL = os.environ.get("FR_TEST_NETWORKS") == "all"


def skip_if_large(weights):
    if weights.large and not ALL:
        pytest.skip("a large network: FR_TEST_NETWORKS=all compares this, too")


def error(value, expected):
    """Of a whole tensor, relative."""
    value, expected = value.double(), expected.double()
    return float((value - expected).norm() / expected.norm())


class Weights:
    """A reference with its weights, and what it computes; both only once."""

    def __init__(self, case, directory, smooth):
        self.directory = pathlib.Path(directory)
        name, output, squeeze_excite = case
        self.large = name in LARGE
        self.arguments = ["--network", name, "--embedding-size", str(EMBEDDING_SIZE)]
        self.arguments += ["--output", output] if output else []
        self.arguments += ["--squeeze-excite"] if squeeze_excite else []
        generator = torch.Generator().manual_seed(3)
        self.images = torch.rand(IMAGES, 3, 112, 112, generator=generator) * 2 - 1
        self.embedding_gradients = torch.randn(IMAGES, EMBEDDING_SIZE, generator=generator)
        self.model = reference_networks.make(name, EMBEDDING_SIZE, output, squeeze_excite)
        pools = any(isinstance(module, torch.nn.MaxPool2d) for module in self.model.modules())
        # Of gradients. What rounding leaves of those that are zero, of biases that the next batch
        # norm takes away, is a share of the largest gradient's norm; more where biases are large.
        self.tolerance = (0.03 if pools else 0.002) if smooth else 0.1
        self.floor = 3e-5 if smooth else 1e-5
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
    if request.param[0] in LARGE and not ALL:
        pytest.skip("a large network: FR_TEST_NETWORKS=all compares this, too")
    with tempfile.TemporaryDirectory() as directory:
        yield Weights(request.param, directory, smooth=True)


def group(tensors, kind):
    """Those under "kind:", without it."""
    return {k.removeprefix(kind): v for k, v in tensors.items() if k.startswith(kind)}


def test_every_layer_agrees(rough):
    embedding, expected = rough.evaluated
    trace = rough.trace("--mode", "eval", "--path", "plain")
    assert error(trace["embedding"], embedding) < 1e-4
    values = group(trace, "value:")
    errors = {name: error(values[name], expected[name]) for name in values.keys() & expected.keys()}
    assert {name: e for name, e in errors.items() if not e < 1e-4} == {}
    # Nothing with weights has been passed over: pos_embed and mask_token are no modules.
    layers = {key.rpartition(".")[0] for key, _ in rough.model.named_parameters() if "." in key}
    assert layers - errors.keys() == set()


@pytest.mark.parametrize("path", ["fused", "script"])
def test_embedding_agrees(rough, path):
    if path == "script":
        skip_if_large(rough)
    expected, _ = rough.evaluated
    trace = rough.trace("--mode", "eval", "--path", path)
    assert error(trace["embedding"], expected) < 1e-4


# What bfloat16 costs depends on the weights: no more than twice what it costs PyTorch.
def test_bf16_embedding_points_the_same_way(rough):
    skip_if_large(rough)
    expected, _ = rough.evaluated
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        torchs = rough.model.eval()(rough.images).float()
    ours = rough.trace("--mode", "eval", "--path", "fused", "--precision", "bf16")["embedding"]
    lost = [1 - torch.nn.functional.cosine_similarity(x, expected).min() for x in (ours, torchs)]
    assert lost[0] < max(0.01, 2 * lost[1])


def assert_gradients_agree(trace, weights):
    """Returns the norm below which a gradient may be what rounding leaves of none."""
    _, expected, _ = weights.trained
    gradients = group(trace, "gradient:")
    assert gradients.keys() == expected.keys()
    floor = weights.floor * max(float(gradient.norm()) for gradient in expected.values())
    wrong = {
        name: (float((gradients[name] - gradient).norm()), float(gradient.norm()))
        for name, gradient in expected.items()
        if not (gradients[name] - gradient).norm() <= weights.tolerance * gradient.norm() + floor
    }
    assert wrong == {}
    return floor


@pytest.mark.parametrize("path", ["plain", "fused"])
def test_training_step_agrees(smooth, path):
    embedding, _, buffers = smooth.trained
    trace = smooth.trace("--mode", "train", "--path", path)
    assert error(trace["embedding"], embedding) < 1e-4
    assert_gradients_agree(trace, smooth)
    statistics = group(trace, "buffer:")
    errors = {name: error(statistics[name], value) for name, value in buffers.items()}
    assert {name: e for name, e in errors.items() if not e < 1e-4} == {}


# Every parameter that can learn does: a gradient that is lost somewhere is far off.
@pytest.mark.parametrize("path", ["plain", "fused"])
def test_gradients_reach_every_parameter(rough, path):
    if path == "plain":
        skip_if_large(rough)
    _, expected, _ = rough.trained
    trace = rough.trace("--mode", "train", "--path", path)
    floor = assert_gradients_agree(trace, rough)
    learning = {name for name, gradient in expected.items() if gradient.norm() > floor}
    still = {name for name in learning if not trace["gradient:" + name].any()}
    assert still == set()
    # All but biases that a batch norm takes away, and what --no-randomness leaves out.
    zero = expected.keys() - learning
    assert {name for name in zero if not name.endswith(".bias")} <= {"mask_token"}


def test_recomputing_changes_nothing(smooth):
    _, _, buffers = smooth.trained
    trace = smooth.trace("--mode", "train", "--path", "fused", "--recompute")
    assert_gradients_agree(trace, smooth)
    for name, value in buffers.items():  # updated once, not twice
        assert error(trace["buffer:" + name], value) < 1e-4, name
