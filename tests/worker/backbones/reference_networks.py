"""The networks once more, in plain PyTorch: what worker/backbones is compared with.

IR-ResNets, MobileFaceNets, MobileNet and ViTs are written from InsightFace's descriptions; the
others are timm's and torchvision's own modules with another stem and output. Parameter names are
those of worker/backbones, so that a state dict of one fits the other.
"""

import contextlib

import torch
from torch import nn


def make(name, embedding_size, output=None, squeeze_excite=False):
    """The network `name` of proto/job.proto, in training mode, with torch's own first weights."""
    make_network, default_output = _NETWORKS[name]
    if name in IR_RESNETS:
        return make_network(embedding_size, output or default_output, squeeze_excite)
    return make_network(embedding_size, output or default_output)


# --- Output: from the last map to the embedding


class WithOutput(nn.Module):
    """Layers bn2, fc, features (or gdc, gdc_bn, fc, features), under these names."""

    def add_output(self, output, channels, size, embedding_size, eps=1e-5):
        self.output_name = output
        self.flatten = nn.Flatten()
        if output == "GDC":
            self.gdc = nn.Conv2d(channels, channels, size, groups=channels, bias=False)
            self.gdc_bn = nn.BatchNorm2d(channels, eps=eps)
        else:
            self.bn2 = nn.BatchNorm2d(channels, eps=eps)
        if output == "GAP":
            self.prelu2 = nn.PReLU(channels)
            self.pool = nn.AdaptiveAvgPool2d(1)
        values = channels * size * size if output in ("E", "FC") else channels
        self.fc = nn.Linear(values, embedding_size)
        self.features = nn.BatchNorm1d(embedding_size, eps=eps)
        self.features.weight.requires_grad_(False)

    def embed(self, x):
        if self.output_name == "GDC":
            x = self.gdc_bn(self.gdc(x))
        elif self.output_name == "GAP":
            x = self.pool(self.prelu2(self.bn2(x)))
        else:
            x = self.bn2(x)
        return self.features(self.fc(self.flatten(x)))


class Output(WithOutput):
    def __init__(self, *arguments):
        super().__init__()
        self.add_output(*arguments)

    def forward(self, x):
        return self.embed(x)


# --- IR-ResNets


class SqueezeExcite(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, channels // 16, 1)
        self.prelu = nn.PReLU(channels // 16)
        self.fc2 = nn.Conv2d(channels // 16, channels, 1)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x):
        return x * self.sigmoid(self.fc2(self.prelu(self.fc1(self.pool(x)))))


class IrBlock(nn.Module):
    def __init__(self, channels, out, stride, squeeze_excite):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.prelu = nn.PReLU(out)
        self.conv2 = nn.Conv2d(out, out, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.se = SqueezeExcite(out) if squeeze_excite else None
        self.downsample = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x):
        y = self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x)))))
        y = self.bn3(y)
        if self.se is not None:
            y = self.se(y)
        return y + (x if self.downsample is None else self.downsample(x))


class IrResNet(WithOutput):
    def __init__(self, blocks, embedding_size, output, squeeze_excite):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.prelu = nn.PReLU(64)
        channels = 64
        for stage, (count, out) in enumerate(zip(blocks, (64, 128, 256, 512)), start=1):
            layer = nn.Sequential()
            for block in range(count):
                layer.append(IrBlock(channels, out, 2 if block == 0 else 1, squeeze_excite))
                channels = out
            self.add_module(f"layer{stage}", layer)
        self.add_output(output, 512, 7, embedding_size)

    def forward(self, x):
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.embed(x)


# --- MobileFaceNets


class Layers(nn.Module):
    """Modules in a row, under "layers"."""

    def __init__(self, *modules):
        super().__init__()
        self.layers = nn.Sequential(*modules)

    def forward(self, x):
        return self.layers(x)


class ResidualLayers(Layers):
    def forward(self, x):
        return x + self.layers(x)


def _linear_block(channels, out, kernel, stride, padding, groups, eps):
    conv = nn.Conv2d(channels, out, kernel, stride, padding, groups=groups, bias=False)
    return conv, nn.BatchNorm2d(out, eps=eps)


class MobileFaceNet(WithOutput):
    def __init__(self, blocks, scale, mxnet, embedding_size, output):
        super().__init__()
        eps, last_eps = (1e-3, 2e-5) if mxnet else (1e-5, 1e-5)

        def linear(channels, out, kernel=1, stride=1, padding=0, groups=1):
            return Layers(*_linear_block(channels, out, kernel, stride, padding, groups, eps))

        def conv(channels, out, kernel=1, stride=1, padding=0, groups=1):
            parts = _linear_block(channels, out, kernel, stride, padding, groups, eps)
            return Layers(*parts, nn.PReLU(out))

        def depthwise(kind, channels, out, stride, inner):
            return kind(
                conv(channels, inner),
                conv(inner, inner, 3, stride, 1, groups=inner),
                linear(inner, out),
            )

        def residuals(count, channels, inner):
            units = (depthwise(ResidualLayers, channels, channels, 1, inner) for _ in range(count))
            return Layers(*units)

        narrow, wide = 64 * scale, 128 * scale
        self.layers = nn.Sequential(
            conv(3, narrow, 3, 2, 1),
            conv(narrow, narrow, 3, 1, 1, groups=64)
            if blocks[0] == 1
            else residuals(blocks[0], narrow, 128),
            depthwise(Layers, narrow, narrow, 2, 128),
            residuals(blocks[1], narrow, 128),
            depthwise(Layers, narrow, wide, 2, 256),
            residuals(blocks[2], wide, 256),
            depthwise(Layers, wide, wide, 2, 512),
            residuals(blocks[3], wide, 256),
        )
        self.conv_sep = conv(wide, 512)
        self.gdc_output = output == "GDC"
        if self.gdc_output:
            self.features = Layers(
                linear(512, 512, 7, groups=512),
                nn.Flatten(),
                nn.Linear(512, embedding_size, bias=mxnet),
                nn.BatchNorm1d(embedding_size, eps=last_eps),
            )
            self.features.layers[3].weight.requires_grad_(not mxnet)
        else:
            self.add_output(output, 512, 7, embedding_size, last_eps)

    def forward(self, x):
        x = self.conv_sep(self.layers(x))
        return self.features(x) if self.gdc_output else self.embed(x)


# --- MobileNetV1


class ConvUnit(nn.Module):
    def __init__(self, channels, out, kernel, stride=1, groups=1):
        super().__init__()
        self.conv2d = nn.Conv2d(
            channels, out, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        self.batchnorm = nn.BatchNorm2d(out, eps=1e-3)
        self.batchnorm.weight.requires_grad_(False)
        self.relu = nn.PReLU(out)

    def forward(self, x):
        return self.relu(self.batchnorm(self.conv2d(x)))


class MobileNet(WithOutput):
    def __init__(self, embedding_size, output):
        super().__init__()
        self.conv_1 = ConvUnit(3, 32, 3)
        units = [self.conv_1]
        channels = 32
        widths = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
        for number, out in enumerate(widths, start=2):
            stride = 2 if number in (3, 5, 7, 13) else 1
            units.append(ConvUnit(channels, channels, 3, stride, groups=channels))
            self.add_module(f"conv_{number}_dw", units[-1])
            units.append(ConvUnit(channels, out, 1))
            self.add_module(f"conv_{number}", units[-1])
            channels = out
        self.order = [name for name, _ in self.named_children()]
        self.add_output(output, 1024, 7, embedding_size, 2e-5)

    def forward(self, x):
        for name in self.order:
            x = getattr(self, name)(x)
        return self.embed(x)


# --- Vision transformers


class PatchEmbed(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.proj = nn.Conv2d(3, width, 9, stride=9)

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    def __init__(self, width, heads=8):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        n, t, d = x.shape
        qkv = self.qkv(x).reshape(n, t, 3, self.heads, d // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        weights = (query @ key.transpose(2, 3) / (d // self.heads) ** 0.5).softmax(dim=3)
        return self.proj((weights @ value).transpose(1, 2).reshape(n, t, d))


class Mlp(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.act = nn.ReLU6()
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


class VitBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """Without stochastic depth and hidden tokens: as it is in evaluation."""

    def __init__(self, width, depth, embedding_size, output):
        super().__init__()
        assert output is None
        self.patch_embed = PatchEmbed(width)
        self.pos_embed = nn.Parameter(torch.zeros(1, 144, width))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.ModuleList(VitBlock(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.feature = nn.Sequential(
            nn.Linear(144 * width, width, bias=False),
            nn.BatchNorm1d(width, eps=2e-5),
            nn.Linear(width, embedding_size, bias=False),
            nn.BatchNorm1d(embedding_size, eps=2e-5),
        )

    def forward(self, x):
        x = self.patch_embed(x) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.feature(self.norm(x).flatten(1))


# --- timm's and torchvision's


@contextlib.contextmanager
def _without_missing_operators():
    """torchvision declares fake kernels of its C++ operators when it is imported, and fails where
    its binary does not fit this torch (PyPI's is made for CUDA). Nothing of them is used here."""
    register = torch.library.register_fake

    def register_others(name, *arguments, **options):
        if isinstance(name, str) and name.startswith("torchvision::"):
            return lambda function: function
        return register(name, *arguments, **options)

    torch.library.register_fake = register_others
    try:
        yield
    finally:
        torch.library.register_fake = register


with _without_missing_operators():
    import timm
    from timm.models import dpn as timm_dpn
    from timm.models.inception_resnet_v2 import InceptionResnetV2 as TimmInceptionResnetV2
    from timm.models.inception_resnet_v2 import Block8, Block17, Block35
    from timm.models.inception_resnet_v2 import Mixed_5b, Mixed_6a, Mixed_7a
    from torchvision.models import densenet as torchvision_densenet


class InceptionResnetV2(TimmInceptionResnetV2):
    def __init__(self, embedding_size, output):
        super().__init__()
        del self.classif
        self.output = Output(output, 1536, 2, embedding_size)

    def forward(self, x):
        return self.output(self.forward_features(x))


class DenseNet(torchvision_densenet.DenseNet):
    def __init__(self, growth, blocks, embedding_size, output):
        super().__init__(growth, blocks, 2 * growth)
        self.features.conv0 = nn.Conv2d(3, 2 * growth, 3, padding=1, bias=False)
        channels = self.classifier.in_features
        del self.classifier
        self.relu5 = nn.ReLU()
        self.output = Output(output, channels, 7, embedding_size)

    def forward(self, x):
        return self.output(self.relu5(self.features(x)))


class Dpn(timm_dpn.DPN):
    def __init__(self, embedding_size, output, **arguments):
        super().__init__(**arguments)
        stem = self.features.conv1_1
        stem.conv = nn.Conv2d(3, stem.conv.out_channels, 3, padding=1, bias=False)
        del self.classifier
        self.output = Output(output, self.num_features, 7, embedding_size)

    def forward(self, x):
        return self.output(self.features(x))


# --- The registry: how it is made, and its own output


def _ir_resnet(*blocks):
    return lambda size, output, se: IrResNet(blocks, size, output, se), "E"


def _mobilefacenet(blocks, scale, mxnet=False):
    return lambda size, output: MobileFaceNet(blocks, scale, mxnet, size, output), "GDC"


def _densenet(growth, *blocks):
    return lambda size, output: DenseNet(growth, blocks, size, output), "E"


def _dpn(**arguments):
    return lambda size, output: Dpn(size, output, **arguments), "E"


def _vit(width, depth):
    return lambda size, output: VisionTransformer(width, depth, size, output), None


_NETWORKS = {
    "r18": _ir_resnet(2, 2, 2, 2),
    "r34": _ir_resnet(3, 4, 6, 3),
    "r50": _ir_resnet(3, 4, 14, 3),
    "r100": _ir_resnet(3, 13, 30, 3),
    "r200": _ir_resnet(6, 26, 60, 6),
    "mbf": _mobilefacenet((1, 4, 6, 2), 2),
    "mbf_large": _mobilefacenet((2, 8, 12, 4), 4),
    "y1": _mobilefacenet((1, 4, 6, 2), 1, mxnet=True),
    "m1": (MobileNet, "GDC"),
    "inception_resnet_v2": (InceptionResnetV2, "E"),
    "densenet121": _densenet(32, 6, 12, 24, 16),
    "densenet161": _densenet(48, 6, 12, 36, 24),
    "densenet169": _densenet(32, 6, 12, 32, 32),
    "densenet201": _densenet(32, 6, 12, 48, 32),
    "dpn68": _dpn(
        small=True, num_init_features=10, k_r=128, k_sec=(3, 4, 12, 3), inc_sec=(16, 32, 32, 64)
    ),
    "dpn92": _dpn(num_init_features=64, k_r=96, k_sec=(3, 4, 20, 3), inc_sec=(16, 32, 24, 128)),
    "vit_t": _vit(256, 12),
    "vit_s": _vit(512, 12),
    "vit_b": _vit(512, 24),
    "vit_l": _vit(768, 24),
}
IR_RESNETS = ("r18", "r34", "r50", "r100", "r200")
NAMES = tuple(_NETWORKS)


# --- What the tests do with a reference


def randomize(model, seed):
    """Random weights, scales, biases and running statistics; what flows stays of order one."""
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor, deviation):
        tensor.copy_(torch.randn(tensor.shape, generator=generator) * deviation)

    def uniform(tensor, low, high):
        tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                normal(module.weight, (2 / module.weight[0].numel()) ** 0.5)
            elif isinstance(module, nn.PReLU):
                uniform(module.weight, 0.05, 0.5)
            elif isinstance(module, nn.LayerNorm) or module in norms:
                if module.weight.requires_grad:
                    uniform(module.weight, 0.5, 1.5)
            if getattr(module, "bias", None) is not None:
                normal(module.bias, 0.2)
        for name in ("pos_embed", "mask_token"):
            if hasattr(model, name):
                normal(getattr(model, name), 0.5)
        # Statistics of what really flows, then some way off.
        for norm in norms:
            norm.momentum = 1
        model.train()
        model(torch.rand(8, 3, 112, 112, generator=generator) * 2 - 1)
        for norm in norms:
            norm.momentum = 0.1
            deviation = norm.running_var.sqrt()
            norm.running_mean += 0.2 * deviation * torch.randn(deviation.shape, generator=generator)
            norm.running_var *= torch.rand(deviation.shape, generator=generator) + 0.6
            norm.num_batches_tracked.zero_()
    return model


def avoid_kinks(model, images, seed):
    """Moves biases so that in training with `images` no value comes near a bend of its activation.

    A value that is negative in one implementation and positive in the other, by rounding, changes
    gradients by far more than rounding does. Whole channels lie on one side of the bend instead.
    """
    generator = torch.Generator().manual_seed(seed)
    # The shortcuts' sums: what a bias of conv2d adds to them is scaled.
    scales = {}
    for module in model.modules():
        if isinstance(module, (Block8, Block17, Block35)):
            activation = module.relu if isinstance(module, Block8) else module.act
            scales[activation] = module.scale
    last = []  # the module that ran last, of those that have a bias

    def remember(module, _inputs):
        last[:] = [module]

    def move(module, inputs):
        (x,) = inputs
        dims = [d for d in range(x.dim()) if d != (1 if x.dim() == 4 else x.dim() - 1)]
        low, high = x.amin(dims), x.amax(dims)
        margin = 0.05 * (high - low) + 1e-2
        draw = torch.rand(low.shape, generator=generator)
        above = draw < (0.6 if module not in scales else 2)
        factor = torch.ones_like(low)
        if isinstance(module, nn.ReLU6):  # below 0, between, or above 6
            above = draw < 0.8
            between = draw < 0.6
            factor[between] = 4 / torch.maximum(high - low, torch.tensor(4.0))[between]
            margin = torch.where(above & ~between, margin + 6, margin)
            last[0].weight.mul_(factor[:, None])
            last[0].bias.mul_(factor)
        shift = torch.where(above, margin - low * factor, -margin - high * factor)
        last[0].bias.add_(shift / scales.get(module, 1))
        at_channels = (-1, 1, 1) if x.dim() == 4 else (-1,)
        return x * factor.view(at_channels) + shift.view(at_channels)

    hooks = []
    for module in model.modules():
        if isinstance(module, (nn.PReLU, nn.ReLU, nn.ReLU6)):
            hooks.append(module.register_forward_pre_hook(move))
        elif getattr(module, "bias", None) is not None:
            hooks.append(module.register_forward_pre_hook(remember))
    statistics = {key: value.clone() for key, value in model.named_buffers()}
    with torch.no_grad():
        model.train()
        model(images)
        for key, value in model.named_buffers():
            value.copy_(statistics[key])
    for hook in hooks:
        hook.remove()
    return model


# Which node of a graph holds what a module of several parts returns.
_OUTPUT_NODE = {
    IrBlock: "add",
    SqueezeExcite: "scale",
    ResidualLayers: "add",
    PatchEmbed: "tokens",
    VitBlock: "add2",
    Mixed_5b: "concat",
    Mixed_6a: "concat",
    Mixed_7a: "concat",
    timm_dpn.DualPathBlock: "concat",
    torchvision_densenet._DenseBlock: "concat",
}


def trace(model, images):
    """The embedding, and what the modules return, by the names of the graph's nodes."""
    values, hooks = {}, []

    def keep(node):
        def hook(_module, _inputs, result):
            values[node] = result.detach().clone()  # what follows may work in place

        return hook

    def keep_input(node):
        def hook(_module, inputs):
            values[node] = inputs[0].detach().clone()

        return hook

    for name, module in model.named_modules():
        if isinstance(module, timm.layers.BatchNormAct2d):
            hooks.append(module.act.register_forward_pre_hook(keep_input(name)))
        elif type(module) in _OUTPUT_NODE:
            hooks.append(module.register_forward_hook(keep(f"{name}.{_OUTPUT_NODE[type(module)]}")))
        elif not list(module.children()):
            hooks.append(module.register_forward_hook(keep(name)))
    try:
        with torch.no_grad():
            embedding = model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return embedding, values


def multiply_adds(model):
    """Of one image, as torch counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model.eval()(torch.zeros(1, 3, 112, 112, device=next(model.parameters()).device))
    return counter.get_total_flops() // 2


def compare_descriptions(path, embedding_size):
    """Prints how networks described by network_test.cpp differ from those here."""
    networks = []
    for line in open(path, encoding="utf-8"):
        kind, *fields = line.rstrip("\n").split("\t")
        if kind == "network":
            networks.append((fields, {}, set()))
        else:
            name, trained, shape = fields
            networks[-1][1][name] = tuple(int(size) for size in shape.split(",") if size)
            if trained == "1":
                networks[-1][2].add(name)
    assert {fields[0] for fields, _, _ in networks} == set(NAMES)
    for (name, output, squeeze_excite, counted), shapes, trained in networks:
        with torch.device("meta"):
            model = make(name, embedding_size, output or None, squeeze_excite == "1")
        label = f"{name} {output} {squeeze_excite}"
        own_shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
        if shapes != own_shapes:
            print(label, "state:", set(shapes.items()) ^ set(own_shapes.items()))
        own_trained = {key for key, value in model.named_parameters() if value.requires_grad}
        if trained != own_trained:
            print(label, "trained:", trained ^ own_trained)
        if int(counted) != multiply_adds(model):
            print(label, "multiply-adds:", counted, multiply_adds(model))
