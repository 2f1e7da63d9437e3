"""fr-model as people use it: what it tells, verifies and embeds, and how it refuses."""

import io
import json
import os
import pickle
import subprocess

import mxnet_models
import numpy as np
import PIL.Image
import pytest
import safetensors.torch
import torch

from driver import BIN_DIR, EMBEDDING_SIZE, embed, error, evaluate, normalise, run


# --- Checkpoints


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
    # In batches of another size: equal to rounding.
    assert error(np.array([line["embedding"] for line in lines]), expected) < 1e-5


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
