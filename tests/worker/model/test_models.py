"""fr-model as people use it, against PyTorch, onnxruntime and formulas in numpy.

Pictures are PNG: what is read from them is the same everywhere.
"""

import io
import json
import os
import pathlib
import pickle
import shutil
import struct
import subprocess

import mxnet_models
import numpy as np
import onnx
import onnxruntime
import PIL.Image
import pytest
import reference_networks
import safetensors.torch
import torch

BIN_DIR = pathlib.Path(os.environ["FR_BIN_DIR"])
IMAGES = 5
EMBEDDING_SIZE = 64

# Every family of networks: name, output, squeeze and excitation.
CASES = [
    ("r18", None, False),
    ("r18", None, True),
    ("r18", "GAP", False),
    ("mbf", None, False),
    ("y1", None, False),
    ("m1", None, False),
    ("inception_resnet_v2", None, False),
    ("densenet121", None, False),
    ("dpn68", None, False),
    ("vit_t", None, False),
]


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


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Files, and their pixels [n, 3, 112, 112]."""
    directory = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(5)
    paths, pixels = [], []
    for number in range(IMAGES):
        coarse = PIL.Image.fromarray(generator.integers(0, 256, (14, 14, 3), np.uint8))
        image = coarse.resize((112, 112), PIL.Image.Resampling.BICUBIC)
        paths.append(directory / f"{number}.png")
        image.save(paths[-1])
        pixels.append(np.asarray(image).transpose(2, 0, 1))
    return paths, torch.tensor(np.stack(pixels)).float()


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


def identify(case):
    return "-".join(filter(None, [case[0], case[1], "se" if case[2] else ""]))


@pytest.fixture(scope="module", params=CASES, ids=identify)
def network(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("network")
    yield Network(request.param, directory)
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def r18(tmp_path_factory):
    return Network(("r18", None, False), tmp_path_factory.mktemp("r18"))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return Network(("y1", None, False), tmp_path_factory.mktemp("y1"))


# --- Every family


def test_a_state_dict_is_recognised_by_its_tensors(network):
    info = json.loads(run("info", network.model, "--json"))
    assert info["network"] == network.name
    assert info["output"] == network.output
    assert info["squeeze_excite"] == network.squeeze_excite
    assert info["embedding_size"] == EMBEDDING_SIZE
    assert info["preprocessing"] == {"mean": 127.5, "std": 127.5}
    assert info["provenance"]["source"] == "backbone.pth"
    assert info["parameters"] == sum(p.numel() for p in network.module.parameters())
    assert info["multiply_adds"] == reference_networks.multiply_adds(network.module)
    assert network.name in network.report


def test_tensors_stay_what_they_are(network, tmp_path):
    expected = network.module.state_dict()
    copy = tmp_path / "copy.safetensors"
    run("export", network.model, copy)
    for path in (network.model, copy):
        tensors = safetensors.torch.load_file(path)
        assert tensors.keys() == expected.keys()
        for name, tensor in tensors.items():
            assert torch.equal(tensor, expected[name]), name
    assert copy.read_bytes() == network.model.read_bytes()


def test_embeddings_agree_with_pytorch(network, pictures):
    paths, pixels = pictures
    assert error(embed_plain(network.model, paths), evaluate(network.module, pixels)) < 1e-4


@pytest.mark.parametrize("kept", [False, True], ids=["folded", "kept"])
def test_onnx_agrees_at_any_batch_and_comes_back(network, pictures, tmp_path, kept):
    paths, pixels = pictures
    out = tmp_path / "model.onnx"
    run("export", network.model, out, *(["--no-fold"] if kept else []))
    model = onnx.load(out)
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == (17 if network.name.startswith("vit") else 11)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["network"] == network.name
    assert [o.name for o in model.graph.output] == ["embedding"]
    if kept:
        named = {tensor.name for tensor in model.graph.initializer}
        assert {name for name, _ in network.module.named_parameters()} - named <= {"mask_token"}

    expected = evaluate(network.module, pixels)
    images = insightface_input(out, pixels)
    session = onnx_session(out)
    for batch in (1, 3, 5):
        (embeddings,) = session.run(None, {"input.1": images[:batch]})
        assert error(embeddings, expected[:batch]) < 1e-4

    back = tmp_path / "back.safetensors"
    run("import", out, back)
    info = json.loads(run("info", back, "--json"))
    assert (info["network"], info["output"]) == (network.name, network.output)
    assert error(embed_plain(back, paths), expected) < 1e-4
    if kept:  # the very same tensors
        before, after = (safetensors.torch.load_file(path) for path in (network.model, back))
        for name, tensor in before.items():
            if not name.endswith(("num_batches_tracked", "mask_token")):
                assert torch.equal(tensor, after[name]), name


def test_torchscript_agrees(network, pictures, tmp_path):
    _, pixels = pictures
    out = tmp_path / "model.pt"
    run("export", network.model, out)
    files = {"fr.json": ""}
    module = torch.jit.load(out, _extra_files=files)
    assert json.loads(files["fr.json"])["network"] == network.name
    state = network.module.state_dict()
    assert module.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
    assert error(evaluate(module, pixels), evaluate(network.module, pixels)) < 1e-4


# --- MXNet


MXNET = {
    "LResNet34E-IR": ("r34", lambda: mxnet_models.lresnet((3, 4, 6, 3))),
    "LResNet50E-IR": ("r50", lambda: mxnet_models.lresnet((3, 4, 14, 3), embedding_size=256)),
    "LResNet100E-IR": ("r100", lambda: mxnet_models.lresnet((3, 13, 30, 3))),
    "MobileFaceNet": ("y1", lambda: mxnet_models.mobilefacenet()),
}


@pytest.mark.parametrize("name", MXNET)
def test_mxnet_models_of_the_first_release(name, pictures, tmp_path):
    paths, pixels = pictures
    network, make = MXNET[name]
    symbol = make()
    symbol.save(tmp_path / "model", epoch=3)
    model = tmp_path / "model.safetensors"
    run("import", tmp_path / "model", model)

    info = json.loads(run("info", model, "--json"))
    assert info["network"] == network
    assert info["preprocessing"] == {"mean": 127.5, "std": 128}
    assert info["provenance"]["params"] == "model-0003.params"
    expected = mxnet_models.evaluate(symbol.symbol(), symbol.parameters, pixels).numpy()
    assert expected.std() > 0.1
    assert error(embed_plain(model, paths), expected) < 1e-4

    # ONNX carries the preprocessing, by which InsightFace's tools know it.
    out = tmp_path / "model.onnx"
    run("export", model, out)
    images = insightface_input(out, pixels)
    assert np.array_equal(images, pixels.numpy())
    (embeddings,) = onnx_session(out).run(None, {"input.1": images})
    assert error(embeddings, expected) < 1e-4
    back = tmp_path / "back.safetensors"
    run("import", out, back)
    assert json.loads(run("info", back, "--json"))["preprocessing"] == info["preprocessing"]
    assert error(embed_plain(back, paths), expected) < 1e-4


def test_mxnet_files_are_named_in_several_ways(pictures, tmp_path):
    old = mxnet_models.mobilefacenet(seed=1)
    new = mxnet_models.mobilefacenet(seed=2)
    old.save(tmp_path / "m", epoch=9)
    new.save(tmp_path / "m", epoch=12)
    shutil.copy(tmp_path / "m-0009.params", tmp_path / "elsewhere.params")
    expected = {symbol: symbol.parameters["arg:conv_1_conv2d_weight"] for symbol in (old, new)}
    for arguments, symbol in [
        (["m"], new),
        (["m-symbol.json"], new),
        (["m,12"], new),
        (["m,9"], old),
        (["m", "--params", tmp_path / "elsewhere.params"], old),
    ]:
        out = tmp_path / "out.safetensors"
        run("import", tmp_path / arguments[0], out, *arguments[1:])
        weight = safetensors.torch.load_file(out)["layers.0.layers.0.weight"]
        assert torch.equal(weight, expected[symbol]), arguments
    assert "m-0077.params" in run("import", tmp_path / "m,77", out, fails=1)


# --- Other ways in


def test_older_and_wrapped_state_dicts(r18, tmp_path):
    state = r18.module.state_dict()
    half = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    forms = {
        "legacy.pth": (state, {"_use_new_zipfile_serialization": False}),
        "wrapped.pt": ({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, {}),
        "half.pth": (half, {}),
    }
    for name, (content, options) in forms.items():
        torch.save(content, tmp_path / name, **options)
        out = tmp_path / "out.safetensors"
        run("import", tmp_path / name, out)
        tensors = safetensors.torch.load_file(out)
        expected = half if name == "half.pth" else state
        assert all(torch.equal(tensors[k], v.to(tensors[k].dtype)) for k, v in expected.items())


def test_a_file_name_that_is_no_utf8(small, tmp_path):
    name = os.fsencode(tmp_path) + b"/\xe9t\xe9.pth"
    shutil.copy(small.pth, name)
    out = tmp_path / "out.safetensors"
    run("import", os.fsdecode(name), out)
    assert json.loads(run("info", out, "--json"))["provenance"]["source"].endswith(".pth")
    run("export", out, tmp_path / "out.onnx")
    onnx.load(tmp_path / "out.onnx")


def test_a_bare_safetensors_file(r18, tmp_path):
    bare = tmp_path / "bare.safetensors"
    state = {k: v for k, v in r18.module.state_dict().items() if "num_batches" not in k}
    safetensors.torch.save_file({k: v.half() for k, v in state.items()}, bare)
    out = tmp_path / "out.safetensors"
    run("import", bare, out, "--pixel-std", "128")
    tensors = safetensors.torch.load_file(out)
    assert all(torch.equal(tensors[k], v.half().float()) for k, v in state.items())
    assert json.loads(run("info", out, "--json"))["preprocessing"]["std"] == 128


def test_onnx_that_pytorch_exported(r18, pictures, tmp_path):
    paths, pixels = pictures
    out = tmp_path / "exported.onnx"
    torch.onnx.export(
        r18.module.eval(), torch.zeros(1, 3, 112, 112), out, dynamo=False, input_names=["data"],
        dynamic_axes={"data": {0: "n"}})
    model = tmp_path / "model.safetensors"
    run("import", out, model)
    info = json.loads(run("info", model, "--json"))
    assert (info["network"], info["embedding_size"]) == ("r18", EMBEDDING_SIZE)
    assert error(embed_plain(model, paths), evaluate(r18.module, pixels)) < 1e-4
    # Without the detour, too.
    assert error(embed_plain(out, paths), evaluate(r18.module, pixels)) < 1e-4


def test_checkpoints_and_runs_are_models(tmp_path):
    """Trains a few steps; run directory and checkpoint are read as they lie."""
    faces = tmp_path / "faces"
    subprocess.run(
        [BIN_DIR / "fr-data", "synth", faces, "--identities", "6", "--images", "8", "--holdout", "4",
         "--pairs", "20"], check=True, capture_output=True)
    job = tmp_path / "job.yaml"
    job.write_text(
        f"name: tiny\ndata: {{train: {faces}, validation: [synth], batch_size: 8}}\n"
        "model: {network: mbf, embedding_size: 32}\ntrain: {epochs: 1, max_steps: 4}\n"
        "checkpoint: {every: 2}\n")
    run_dir = tmp_path / "run"
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1",
                   "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    subprocess.run(
        ["mpirun", "-np", "1", BIN_DIR / "fr-worker", "--job", job, "--run-dir", run_dir],
        check=True, capture_output=True, timeout=300, env=environment)
    checkpoints = sorted((run_dir / "checkpoints").iterdir())
    for path, step in [(run_dir, "4"), (checkpoints[-1], "4"), (checkpoints[0], "2")]:
        info = json.loads(run("info", path, "--json"))
        assert (info["network"], info["embedding_size"]) == ("mbf", 32)
        assert info["provenance"]["step"] == step
    trained = json.loads((checkpoints[-1] / "manifest.json").read_text())["validation"][0]
    verified = json.loads(run("verify", run_dir, faces / "synth.bin", "-o", "json"))["sets"][0]
    assert verified["set"] == "synth"
    assert verified["accuracy"] == pytest.approx(trained["accuracy"], abs=1e-9)

    # A checkpoint that was damaged is found out.
    backbone = checkpoints[-1] / "backbone.safetensors"
    backbone.write_bytes(backbone.read_bytes()[:-4] + b"\0\0\1\0")
    assert "checksum" in run("info", run_dir, fails=1)


# --- info


def test_info_of_a_network_by_name():
    text = run("info", "--network", "r50")
    assert "43.59 million" in text and "(x - 127.5) / 127.5" in text
    layers = run("info", "--network", "mobilefacenet", "--embedding-size", "128", "--layers")
    assert "conv_sep.layers.0" in layers and "[512, 7, 7]" in layers
    info = json.loads(run("info", "--network", "r18", "--output", "GAP", "--squeeze-excite",
                          "--layers", "--json"))
    assert (info["output"], info["squeeze_excite"]) == ("GAP", True)
    assert sum(layer["parameters"] for layer in info["layers"]) == info["parameters"]
    assert sum(layer["multiply_adds"] for layer in info["layers"]) == info["multiply_adds"]


# --- verify


def protocol(embeddings, same):
    """LFW's protocol once more: accuracy, deviation and threshold over ten folds, and the TAR."""
    a, b = normalise(embeddings[0::2]), normalise(embeddings[1::2])
    distances = ((a - b) ** 2).sum(1)
    grid = np.arange(400) * 0.01
    accuracies, thresholds, tars = [], [], []
    for fold in np.array_split(np.arange(len(same)), 10):
        others = np.setdiff1d(np.arange(len(same)), fold)
        correct = [np.mean((distances[others] < t) == same[others]) for t in grid]
        thresholds.append(grid[int(np.argmax(correct))])
        accuracies.append(np.mean((distances[fold] < thresholds[-1]) == same[fold]))
        negatives = distances[others][~same[others]]
        strict = [t for t in np.arange(4000) * 0.001 if np.mean(negatives < t) <= 1e-3]
        tars.append(np.mean(distances[fold][same[fold]] < max(strict)))
    return np.mean(accuracies), np.std(accuracies), np.mean(thresholds), np.mean(tars), distances


@pytest.fixture(scope="module")
def verification_set(tmp_path_factory):
    """A synthetic set with its pictures as PNG: file, pixels, and which pairs are the same."""
    directory = tmp_path_factory.mktemp("set")
    subprocess.run(
        [BIN_DIR / "fr-data", "synth", directory, "--identities", "3", "--images", "2",
         "--holdout", "12", "--pairs", "60"], check=True, capture_output=True)
    with open(directory / "synth.bin", "rb") as file:
        images, same = pickle.load(file, encoding="bytes")
    pixels, encoded = [], []
    for image in images:
        decoded = PIL.Image.open(io.BytesIO(image)).convert("RGB")
        pixels.append(np.asarray(decoded).transpose(2, 0, 1))
        png = io.BytesIO()
        decoded.save(png, "png")
        encoded.append(png.getvalue())
    path = directory / "lossless.bin"
    with open(path, "wb") as file:
        pickle.dump((encoded, list(same)), file, protocol=4)
    return path, torch.tensor(np.stack(pixels)).float(), np.array(same, bool)


def test_verify_follows_the_protocol(small, verification_set):
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    path, pixels, same = verification_set
    both = evaluate(small.module, pixels) + evaluate(small.module, pixels.flip(3))
    accuracy, deviation, threshold, tar, distances = protocol(both.astype(np.float64), same)

    result = json.loads(run("verify", small.model, path, "-o", "json", "--batch", "7"))
    assert (result["network"], result["precision"]) == ("y1", "fp32")
    (found,) = result["sets"]
    assert (found["set"], found["pairs"]) == ("lossless", len(same))
    assert found["accuracy"] == pytest.approx(accuracy, abs=1e-9)
    assert found["accuracy_std"] == pytest.approx(deviation, abs=1e-9)
    assert found["threshold"] == pytest.approx(threshold, abs=1e-9)
    assert found["tar_at_far_1e-3"] == pytest.approx(tar, abs=1e-9)
    assert found["auc"] == pytest.approx(sklearn_metrics.roc_auc_score(same, -distances), abs=1e-9)
    assert found["embedding_norm"] == pytest.approx(
        np.linalg.norm(both, axis=1).mean() / 2, rel=1e-5)
    assert found["seconds"] > 0

    table = run("verify", small.model, path, path).splitlines()
    assert table[0].split()[:3] == ["SET", "PAIRS", "ACCURACY"]
    assert [line.split()[0] for line in table[1:]] == ["lossless", "lossless"]
    assert f"{accuracy * 100:.2f} %" in table[1]


def test_verify_in_bf16_is_close(small, verification_set):
    path, _, _ = verification_set
    full, half = (
        json.loads(run("verify", small.model, path, "-o", "json", "--precision", precision))["sets"][0]
        for precision in ("fp32", "bf16"))
    assert half["accuracy"] == pytest.approx(full["accuracy"], abs=0.1)
    assert half["auc"] == pytest.approx(full["auc"], abs=0.05)


# --- embed


def test_embed_writes_what_numpy_and_json_read(r18, pictures):
    paths, pixels = pictures
    plain = evaluate(r18.module, pixels)
    mirrored = evaluate(r18.module, pixels.flip(3))
    assert error(embed(r18.model, paths), normalise(plain + mirrored)) < 1e-4
    assert error(embed(r18.model, paths, "--raw"), (plain + mirrored) / 2) < 1e-4
    assert error(embed(r18.model, paths, "--no-mirror"), normalise(plain)) < 1e-4

    expected = embed(r18.model, paths, "--batch", "2")
    assert expected.dtype == np.float32 and expected.flags.c_contiguous
    lines = [json.loads(line) for line in run("embed", r18.model, paths[0].parent).splitlines()]
    assert [line["file"] for line in lines] == [str(path) for path in paths]
    assert error(np.array([line["embedding"] for line in lines]), expected) < 1e-6


# --- What is wrong is named, with what to do


class Evil:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_an_evil_pickle_does_nothing(r18, tmp_path):
    mark = tmp_path / "executed"
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        path = tmp_path / "evil.pth"
        torch.save({**r18.module.state_dict(), "extra": Evil(mark)}, path, **options)
        assert "evil.pth" in run("import", path, tmp_path / "out.safetensors", fails=1)
        assert not mark.exists()
    assert not (tmp_path / "out.safetensors").exists()


def test_truncated_files_are_found(r18, tmp_path):
    out = tmp_path / "out.safetensors"
    run("export", r18.model, tmp_path / "whole.onnx")
    for whole in (r18.pth, r18.model, tmp_path / "whole.onnx"):
        content = whole.read_bytes()
        for size in (0, 7, 100, len(content) // 2, len(content) - 1):
            part = tmp_path / f"part{whole.suffix}"
            part.write_bytes(content[:size])
            assert "part" in run("import", part, out, fails=1)
    symbol = mxnet_models.mobilefacenet()
    symbol.save(tmp_path / "m")
    content = (tmp_path / "m-0000.params").read_bytes()
    (tmp_path / "m-0000.params").write_bytes(content[: len(content) // 2])
    assert "m-0000.params" in run("import", tmp_path / "m", out, fails=1)
    (tmp_path / "m-symbol.json").write_text('{"nodes": [')
    assert "m-symbol.json" in run("import", tmp_path / "m", out, fails=1)
    assert not out.exists()


def test_a_network_that_is_none_of_ours_is_compared_with_the_closest(r18, tmp_path):
    out = tmp_path / "out.safetensors"
    state = r18.module.state_dict()
    cases = {
        "lacks": ({k: v for k, v in state.items() if k != "layer2.0.bn1.weight"},
                  "has no 'layer2.0.bn1.weight'"),
        "more": ({**state, "head.weight": torch.zeros(3)}, "head.weight"),
        "shape": ({**state, "conv1.weight": torch.zeros(64, 3, 7, 7)}, "[64, 3, 7, 7]"),
    }
    for name, (content, expected) in cases.items():
        torch.save(content, tmp_path / f"{name}.pth")
        message = run("import", tmp_path / f"{name}.pth", out, fails=2)
        assert expected in message and "r18" in message, message
    message = run("import", r18.pth, out, "--network", "r50", fails=2)
    assert "r50" in message and "layer1.2" in message
    assert "512" in run("import", r18.pth, out, "--embedding-size", "512", fails=2)
    message = run("import", r18.pth, out, "--network", "r51", fails=2)
    assert "r51" in message and "r50" in message
    # By structure: a ResNet that InsightFace does not have.
    symbol = mxnet_models.lresnet((1, 1, 1, 1), embedding_size=EMBEDDING_SIZE)
    symbol.save(tmp_path / "tiny")
    message = run("import", tmp_path / "tiny", out, fails=2)
    assert "r18" in message and "stage" in message


def test_pictures_of_another_size_are_named(r18, pictures, tmp_path):
    paths, _ = pictures
    PIL.Image.new("RGB", (96, 112)).save(tmp_path / "wrong.png")
    message = run("embed", r18.model, paths[0], tmp_path / "wrong.png", fails=2)
    assert "wrong.png" in message and "96 x 112" in message and "112 x 112" in message
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    assert "broken.jpg" in run("embed", r18.model, tmp_path / "broken.jpg", fails=1)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no pictures" in run("embed", r18.model, empty, fails=2)


def test_a_verification_set_that_is_none_is_named(r18, tmp_path):
    assert "lfw.bin" in run("verify", r18.model, tmp_path / "lfw.bin", fails=1)
    (tmp_path / "cfp.bin").write_bytes(pickle.dumps(Evil(tmp_path / "executed")))
    assert "cfp.bin" in run("verify", r18.model, tmp_path / "cfp.bin", fails=1)
    assert not (tmp_path / "executed").exists()


def test_wrong_requests(r18, tmp_path):
    assert "none.safetensors" in run("info", tmp_path / "none.safetensors", fails=1)
    assert "manifest.json" in run("info", tmp_path, fails=2)
    assert ".onnx" in run("export", r18.model, tmp_path / "model.pth", fails=2)
    assert "nowhere" in run("export", r18.model, tmp_path / "nowhere" / "m.onnx", fails=1)
    assert ".safetensors" in run("import", r18.pth, tmp_path / "model.onnx", fails=2)
    (tmp_path / "model.h5").write_bytes(b"?")
    assert "model.h5" in run("import", tmp_path / "model.h5", tmp_path / "o.safetensors", fails=2)
    for arguments in (
        [], ["dance"], ["info"], ["info", r18.model, "--network", "r50"], ["verify", r18.model],
        ["embed", r18.model], ["verify", r18.model, "x.bin", "-o", "xml"],
        ["verify", r18.model, "x.bin", "--precision", "fp8"],
        ["import", r18.pth, "o.safetensors", "--pixel-std", "0"],
        ["info", "--network", "vit_t", "--output", "GAP"],
    ):
        run(*arguments, fails=2)
    # A file that says one network and holds another.
    tensors = safetensors.torch.load_file(r18.model)
    lying = tmp_path / "lying.safetensors"
    safetensors.torch.save_file(
        tensors, lying, {"network": "r34", "embedding_size": "64", "pixel_mean": "127.5",
                         "pixel_std": "127.5"})
    assert "lying.safetensors" in run("info", lying, fails=1)
    for wrong in ({"network": "r51"}, {"embedding_size": "-3"}, {"pixel_std": "0"}):
        metadata = {"network": "r18", "embedding_size": "64", "pixel_mean": "127.5",
                    "pixel_std": "127.5", **wrong}
        safetensors.torch.save_file(tensors, lying, metadata)
        assert next(iter(wrong)) in run("info", lying, fails=1)


def test_help_and_version():
    for command in ("info", "verify", "embed", "import", "export"):
        assert "MODEL" in run(command, "--help") or command == "import"
    assert run("--version").startswith("fr-model ")
