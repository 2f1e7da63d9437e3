"""Models in and out of every format, against PyTorch, onnxruntime and MXNet's definitions.

Pictures are PNG: what is read from them is the same everywhere.
"""

import json
import os
import shutil

import mxnet_models
import numpy as np
import onnx
import pytest
import reference_networks
import safetensors.torch
import torch

from driver import (
    EMBEDDING_SIZE, Network, embed_plain, error, evaluate, insightface_input, onnx_session, run)

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


def identify(case):
    return "-".join(filter(None, [case[0], case[1], "se" if case[2] else ""]))


@pytest.fixture(scope="module", params=CASES, ids=identify)
def network(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("network")
    yield Network(request.param, directory)
    shutil.rmtree(directory)


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
