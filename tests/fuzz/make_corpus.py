#!/usr/bin/env python3
"""Writes tests/fuzz/corpus/TARGET/: small good files, from which the fuzzers start.

  .venv/bin/python tests/fuzz/make_corpus.py

Needs what the tests need (scripts/requirements.txt). Inputs that once were findings lie there, too,
as found-*; they are kept.
"""

import io
import json
import pathlib
import pickle
import struct
import tarfile
import zipfile

import numpy
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

CORPUS = pathlib.Path(__file__).parent / "corpus"


def put(target, name, content):
    directory = CORPUS / target
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_bytes(content)


MAGIC = struct.pack("<I", 0xCED7230A)


def part(payload, kind=0):
    return MAGIC + struct.pack("<I", kind << 29 | len(payload)) + payload + b"\0" * (-len(payload) % 4)


def payload(labels, key, image):
    if len(labels) == 1:
        return struct.pack("<IfQQ", 0, labels[0], key, 0) + image
    return struct.pack(f"<IfQQ{len(labels)}f", len(labels), 0, key, 0, *labels) + image


def records():
    header = part(payload([5, 7], 0, b""))
    put("record", "whole", header + part(payload([0], 1, b"image")) + part(payload([1, 3], 5, b"")))
    split = payload([0], 1, b"four" * 3)
    put("record", "split", part(split[:24], 1) + part(b"", 2) + part(split[24:], 3))
    put("record", "labels", part(payload([1, 0.5, -1], 2, b"image")))
    put("index", "index", b"0\t96\n1\t0\r\n2\t48")
    shard = struct.pack("<I", 5) + b"a.tar" + struct.pack("<QqQ", 4096, 7, 2)
    put("index", "shards", b"FRSHARD1" + struct.pack("<I", 1) + shard
        + struct.pack("<QIIQII", 512, 9, 3, 1536, 1, 0))
    put("property", "property", b"85742,112,112\n")
    put("property", "more", b" 10, 16 ,16,3\r\nmore")


def pickles():
    same = [True, False]
    images = [b"a\xff\n", b"", b"b\\", b"c" * 300]
    for protocol in range(6):
        put("pickle", f"plain{protocol}", pickle.dumps((images, same), protocol))
    for protocol in (0, 2, 5):
        put("pickle", f"numpy{protocol}", pickle.dumps(
            ([numpy.frombuffer(i, numpy.uint8).copy() for i in images], numpy.array(same)), protocol))
    put("pickle", "scalars", pickle.dumps((images, [numpy.bool_(True), numpy.bool_(False)]), 4))
    put("pickle", "bytearrays", pickle.dumps(([bytearray(i) for i in images], (1, 0)), 2))
    put("pickle", "python2", b"((lp1\nS'it\\'s \"\\n\\x00\\xff'\np2\naS''\np3\naa(lp4\nI01\natp5\n.")


def pictures():
    colours = Image.new("RGB", (16, 16))
    colours.putdata([(x * 16, y * 16, x * y) for y in range(16) for x in range(16)])
    variants = {"rgb.jpg": (colours, {}), "grey.jpg": (colours.convert("L"), {}),
                "progressive.jpg": (colours, {"progressive": True}), "rgb.png": (colours, {}),
                "palette.png": (colours.convert("P"), {}), "grey.png": (colours.convert("L"), {}),
                "alpha.png": (colours.convert("RGBA"), {}), "bits.png": (colours.convert("1"), {}),
                "rgb.ppm": (colours, {}), "grey.pgm": (colours.convert("L"), {})}
    for name, (picture, options) in variants.items():
        content = io.BytesIO()
        picture.save(content, {"jpg": "JPEG", "png": "PNG"}.get(name[-3:], "PPM"), **options)
        put("image", name, content.getvalue())
    put("image", "comment.pgm", b"P5 # a comment\n16 16\n255\n" + bytes(256))


def tars():
    for name, kind in (("ustar", tarfile.USTAR_FORMAT), ("gnu", tarfile.GNU_FORMAT),
                       ("pax", tarfile.PAX_FORMAT)):
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w", format=kind) as tar:
            folder = "d/" * 60 if name == "ustar" else "l" * 130
            for member, text in ((folder + "a.jpg", b"picture"), (folder + "a.cls", b"3"),
                                 ("b.json", b'{"label": 5}'), ("b.png", b"picture")):
                info = tarfile.TarInfo(member)
                info.size = len(text)
                tar.addfile(info, io.BytesIO(text))
        # Without the blocks of zeros up to 10,240 bytes.
        put("tar", name, content.getvalue().rstrip(b"\0") + b"\0" * 512)


def without_checksums(content):
    """A zip file whose CRCs are 0, which are not checked: so that its members can be changed."""
    content = bytearray(content)
    for signature, at in ((b"PK\x03\x04", 14), (b"PK\x01\x02", 16), (b"PK\x07\x08", 4)):
        found = content.find(signature)
        while found >= 0:
            content[found + at:found + at + 4] = bytes(4)
            found = content.find(signature, found + 4)
    return bytes(content)


def checkpoints():
    state = {"conv1.weight": torch.arange(4.0).reshape(1, 1, 2, 2), "bn1.n": torch.tensor(3),
             "half": torch.ones(2, dtype=torch.float16)}
    for name, old in (("zip", False), ("old", True)):
        content = io.BytesIO()
        torch.save({"state_dict": state}, content, _use_new_zipfile_serialization=not old)
        put("torch", name, content.getvalue() if old else without_checksums(content.getvalue()))
        if not old:
            with zipfile.ZipFile(content) as archive:
                [pickled] = [n for n in archive.namelist() if n.endswith("data.pkl")]
                put("torch", "pickle", archive.read(pickled))


def mxnet():
    def tensor(shape, data, magic):
        storage = b"" if magic == 0xF993FAC8 else struct.pack("<i", 0)
        return (struct.pack("<I", magic) + storage + struct.pack(f"<I{len(shape)}q", len(shape), *shape)
                + struct.pack("<iii", 1, 0, 0) + data)

    def params(*tensors):
        names = b"".join(struct.pack("<Q", 5) + b"arg:" + bytes([97 + i]) for i in range(len(tensors)))
        return (struct.pack("<QQQ", 0x112, 0, len(tensors)) + b"".join(tensors)
                + struct.pack("<Q", len(tensors)) + names)

    for version, magic in enumerate((0xF993FAC8, 0xF993FAC9, 0xF993FACA), 1):
        put("mxnet_params", f"v{version}", params(tensor((2, 1), bytes(8), magic),
                                                  tensor((1,), bytes(4), magic)))
    legacy = struct.pack("<III", 2, 2, 1) + struct.pack("<iii", 1, 0, 0) + bytes(8)
    put("mxnet_params", "v0", params(legacy))
    nodes = [{"op": "null", "name": "data", "inputs": []},
             {"op": "null", "name": "w", "inputs": [], "attrs": {"__shape__": "(4, 3, 3, 3)"}},
             {"op": "Convolution", "name": "conv", "attrs": {"kernel": "(3, 3)", "num_filter": "4",
                                                            "pad": "(1, 1)", "no_bias": "True"},
              "inputs": [[0, 0, 0], [1, 0, 0]]},
             {"op": "Activation", "name": "relu", "attrs": {"act_type": "relu"}, "inputs": [[2, 0, 0]]}]
    put("mxnet_symbol", "new", json.dumps({"nodes": nodes, "arg_nodes": [0, 1],
                                           "heads": [[3, 0, 0]]}).encode())
    old = [{("param" if key == "attrs" else key): value for key, value in node.items()}
           for node in nodes]
    put("mxnet_symbol", "old", json.dumps({"nodes": old, "heads": [[3, 0]]}).encode())


def networks():
    weight = numpy_helper.from_array(numpy.zeros((1, 3, 2, 2), numpy.float32), "w")
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [-1, 1])
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], pads=[0, 0, 1, 1]),
             helper.make_node("Relu", ["y"], ["z"]),
             helper.make_node("Reshape", ["z", "shape"], ["out"])]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)], [weight, shape])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    put("onnx", "conv", model.SerializeToString())
    half = numpy_helper.from_array(numpy.ones(3, numpy.float16), "half")
    outside = onnx.TensorProto(name="e", data_type=TensorProto.FLOAT, dims=[1],
                               data_location=TensorProto.EXTERNAL)
    outside.external_data.add(key="location", value="no_file")
    graph = helper.make_graph([], "net", [], [], [half, outside])
    put("onnx", "external", helper.make_model(graph).SerializeToString())


for make in (records, pickles, pictures, tars, checkpoints, mxnet, networks):
    make()
