"""Models as InsightFace's first release wrote them with MXNet, and what they compute.

Symbols carry the first release's names of layers. `evaluate` reads nothing but the symbol's JSON and
the parameters, and computes each operator as MXNet's documentation defines it.
"""

import ast
import json
import struct

import torch
from torch.nn import functional

EPSILON = 2e-5  # what the first release gives its batch norms


class Symbol:
    """A graph under construction; parameters are drawn as it grows."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)
        self.nodes = []
        self.parameters = {}  # "arg:conv0_weight"
        self.channels = {}  # of a node's result
        self.counts = {}  # of names that MXNet numbers

    # --- Parts

    def add(self, op, name, inputs=(), channels=0, **attributes):
        node = {"op": op, "name": name, "inputs": [[i, 0, 0] for i in inputs]}
        if attributes:
            node["attrs"] = {key: str(value) for key, value in attributes.items()}
        self.nodes.append(node)
        index = len(self.nodes) - 1
        self.channels[index] = channels or (self.channels[inputs[0]] if inputs else 0)
        return index

    def numbered(self, name):
        self.counts[name] = self.counts.get(name, -1) + 1
        return f"{name}{self.counts[name]}"

    def variable(self, name, value, kind="arg"):
        self.parameters[f"{kind}:{name}"] = value
        return self.add("null", name)

    def normal(self, *shape, deviation=1.0):
        return torch.randn(shape, generator=self.generator) * deviation

    def uniform(self, *shape, low, high):
        return torch.rand(shape, generator=self.generator) * (high - low) + low

    def conv(self, x, name, out, kernel=1, stride=1, pad=0, groups=1, bias=False):
        shape = (out, self.channels[x] // groups, kernel, kernel)
        deviation = (2 / (shape[1] * kernel * kernel)) ** 0.5
        inputs = [x, self.variable(f"{name}_weight", self.normal(*shape, deviation=deviation))]
        if bias:
            inputs.append(self.variable(f"{name}_bias", self.normal(out, deviation=0.2)))
        return self.add(
            "Convolution", name, inputs, out, kernel=(kernel, kernel), stride=(stride, stride),
            pad=(pad, pad), num_filter=out, num_group=groups, no_bias=not bias)

    def bn(self, x, name, eps=EPSILON, fix_gamma=False):
        size = self.channels[x]
        # MXNet keeps a gamma that is fixed at 1, and does not look at it.
        inputs = [
            x,
            self.variable(f"{name}_gamma", self.uniform(size, low=0.5, high=1.5)),
            self.variable(f"{name}_beta", self.normal(size, deviation=0.2)),
            self.variable(f"{name}_moving_mean", torch.zeros(size), "aux"),
            self.variable(f"{name}_moving_var", torch.ones(size), "aux"),
        ]
        attributes = {"fix_gamma": fix_gamma, "momentum": 0.9}
        if eps is not None:
            attributes["eps"] = eps
        return self.add("BatchNorm", name, inputs, **attributes)

    def prelu(self, x, name):
        slope = self.uniform(self.channels[x], low=0.05, high=0.5)
        return self.add(
            "LeakyReLU", name, [x, self.variable(f"{name}_gamma", slope)], act_type="prelu")

    def linear(self, x, name, inputs, out):
        weight = self.normal(out, inputs, deviation=inputs**-0.5)
        return self.add(
            "FullyConnected", name,
            [x, self.variable(f"{name}_weight", weight),
             self.variable(f"{name}_bias", self.normal(out, deviation=0.2))],
            out, num_hidden=out)

    def image(self):
        """The input, and what the first release does with it."""
        x = self.add("null", "data", channels=3)
        x = self.add("_copy", "id", [x])
        x = self.add("_minus_scalar", self.numbered("_minusscalar"), [x], scalar=127.5)
        return self.add("_mul_scalar", self.numbered("_mulscalar"), [x], scalar=0.0078125)

    # --- Files

    def symbol(self):
        return {
            "nodes": self.nodes,
            "arg_nodes": [i for i, node in enumerate(self.nodes) if node["op"] == "null"],
            "heads": [[len(self.nodes) - 1, 0, 0]],
            "attrs": {"mxnet_version": ["int", 10300]},
        }

    def save(self, prefix, epoch=0):
        """PREFIX-symbol.json and PREFIX-NNNN.params, format version 2."""
        with open(f"{prefix}-symbol.json", "w", encoding="utf-8") as file:
            json.dump(self.symbol(), file)
        with open(f"{prefix}-{epoch:04}.params", "wb") as file:
            file.write(struct.pack("<QQQ", 0x112, 0, len(self.parameters)))
            for value in self.parameters.values():
                file.write(struct.pack("<Iii", 0xF993FAC9, 0, value.dim()))
                file.write(struct.pack(f"<{value.dim()}q", *value.shape))
                file.write(struct.pack("<iii", 1, 0, 0))
                file.write(value.contiguous().numpy().tobytes())
            file.write(struct.pack("<Q", len(self.parameters)))
            for name in self.parameters:
                file.write(struct.pack("<Q", len(name)) + name.encode())


def evaluate(symbol, parameters, pixels, calibrate=None):
    """The head's value for images of pixels 0..255. With `calibrate`, a generator, statistics of
    batch norms become what really flows, give or take a little."""

    def attribute(node, key, default):
        text = node.get("attrs", {}).get(key)
        if text is None:
            return default
        try:
            return ast.literal_eval(text)
        except ValueError:
            return text

    def parameter(entry, kind="arg"):
        return parameters[f"{kind}:{symbol['nodes'][entry[0]]['name']}"]

    def batch_norm(node, x):
        gamma, beta = parameter(node["inputs"][1]), parameter(node["inputs"][2])
        mean, var = (parameter(entry, "aux") for entry in node["inputs"][3:5])
        if calibrate is not None:
            dims = [d for d in range(x.dim()) if d != 1]
            factor = torch.rand(mean.shape, generator=calibrate) + 0.6
            var.copy_(x.var(dims, unbiased=False).clamp(min=1e-3) * factor)
            shift = torch.randn(mean.shape, generator=calibrate) * 0.2
            mean.copy_(x.mean(dims) + shift * var.sqrt())
        if attribute(node, "fix_gamma", True):
            gamma = torch.ones_like(gamma)
        view = (1, -1) + (1,) * (x.dim() - 2)
        scale = gamma / (var + attribute(node, "eps", 1e-3)).sqrt()
        return (x - mean.view(view)) * scale.view(view) + beta.view(view)

    def convolution(node, x):
        bias = None if attribute(node, "no_bias", False) else parameter(node["inputs"][2])
        return functional.conv2d(
            x, parameter(node["inputs"][1]), bias, attribute(node, "stride", (1, 1)),
            attribute(node, "pad", (0, 0)), 1, attribute(node, "num_group", 1))

    def fully_connected(node, x):
        weight, bias = (parameter(entry) for entry in node["inputs"][1:3])
        return x.flatten(1) @ weight.T + bias

    operators = {
        "Convolution": convolution,
        "BatchNorm": batch_norm,
        "FullyConnected": fully_connected,
        "LeakyReLU": lambda node, x: functional.prelu(x, parameter(node["inputs"][1])),
        "_copy": lambda node, x: x,
        "Dropout": lambda node, x: x,
        "_minus_scalar": lambda node, x: x - attribute(node, "scalar", 0),
        "_mul_scalar": lambda node, x: x * attribute(node, "scalar", 0),
        "elemwise_add": lambda node, x, y: x + y,
    }
    values = {}
    with torch.no_grad():
        for index, node in enumerate(symbol["nodes"]):
            if node["op"] == "null":
                if node["name"] == "data":
                    values[index] = pixels
                continue
            inputs = [values[i] for i, _, _ in node["inputs"] if i in values]
            values[index] = operators[node["op"]](node, *inputs)
    return values[symbol["heads"][0][0]]


def calibrated(symbol, seed):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (4, 3, 112, 112), generator=generator).float()
    evaluate(symbol.symbol(), symbol.parameters, pixels, generator)
    return symbol


# --- Networks of the first release


def lresnet(blocks, embedding_size=512, seed=1):
    """LResNet<n>E-IR: fresnet.py with input L, output E, unit 3, PReLU."""
    s = Symbol(seed)
    x = s.conv(s.image(), "conv0", 64, 3, 1, 1)
    x = s.prelu(s.bn(x, "bn0"), "relu0")
    for stage, (count, out) in enumerate(zip(blocks, (64, 128, 256, 512)), start=1):
        for number in range(1, count + 1):
            name, stride = f"stage{stage}_unit{number}", 2 if number == 1 else 1
            y = s.conv(s.bn(x, f"{name}_bn1"), f"{name}_conv1", out, 3, 1, 1)
            y = s.prelu(s.bn(y, f"{name}_bn2"), f"{name}_relu1")
            y = s.bn(s.conv(y, f"{name}_conv2", out, 3, stride, 1), f"{name}_bn3")
            if number == 1:
                x = s.bn(s.conv(x, f"{name}_conv1sc", out, 1, stride), f"{name}_sc")
            x = s.add("elemwise_add", s.numbered("_plus"), [y, x])
    x = s.add("Dropout", "dropout0", [s.bn(x, "bn1")], p=0.4)
    s.bn(s.linear(x, "pre_fc1", 512 * 7 * 7, embedding_size), "fc1", fix_gamma=True)
    return calibrated(s, seed)


def mobilefacenet(embedding_size=128, seed=1):
    """fmobilefacenet.py with blocks 1, 4, 6, 2 and output GDC: "y1"."""
    s = Symbol(seed)

    def conv(x, name, out, kernel=1, stride=1, pad=0, groups=1, active=True):
        x = s.bn(s.conv(x, f"{name}_conv2d", out, kernel, stride, pad, groups),
                 f"{name}_batchnorm", eps=None)
        return s.prelu(x, f"{name}_relu") if active else x

    def bottleneck(x, name, out, stride, inner):
        x = conv(x, f"{name}_conv_sep", inner)
        x = conv(x, f"{name}_conv_dw", inner, 3, stride, 1, inner)
        return conv(x, f"{name}_conv_proj", out, active=False)

    def residuals(x, name, count, inner):
        for number in range(count):
            y = bottleneck(x, f"{name}_block{number}", s.channels[x], 1, inner)
            x = s.add("elemwise_add", s.numbered("_plus"), [y, x])
        return x

    x = conv(s.image(), "conv_1", 64, 3, 2, 1)
    x = conv(x, "conv_2_dw", 64, 3, 1, 1, 64)
    x = residuals(bottleneck(x, "dconv_23", 64, 2, 128), "res_3", 4, 128)
    x = residuals(bottleneck(x, "dconv_34", 128, 2, 256), "res_4", 6, 256)
    x = residuals(bottleneck(x, "dconv_45", 128, 2, 512), "res_5", 2, 256)
    x = conv(x, "conv_6sep", 512)
    x = conv(x, "conv_6dw7_7", 512, 7, 1, 0, 512, active=False)
    s.bn(s.linear(x, "pre_fc1", 512, embedding_size), "fc1", fix_gamma=True)
    return calibrated(s, seed)
