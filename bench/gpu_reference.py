#!/usr/bin/env python3
"""A training step of IR-ResNet-50 with ArcFace as PyTorch users run it on one GPU: what bench_train
compares with (bench/train_gpu.h). Prints its figures as one line of JSON.

The network and the step are those of InsightFace's arcface_torch (train_v2.py, iresnet.py,
partial_fc_v2.py), written here from its description: autocast to bfloat16 in channels-last layout,
fc and the last batch norm in float32; logits of all identities from normalised weights; the
softmax in the logits' own memory; gradients' norm clipped at 5; torch.optim.SGD over everything.
Margins are computed at the targets alone, which costs less than arcface_torch's arc cosine of all
logits.
"""

import argparse
import json
import math
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

WARM_UP_STEPS = 5
SCALE, MARGIN = 64.0, 0.5


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs, eps=1e-5)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs, eps=1e-5)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs, eps=1e-5)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                nn.BatchNorm2d(outputs, eps=1e-5))

    def forward(self, x):
        y = self.conv1(self.bn1(x))
        y = self.conv2(self.prelu(self.bn2(y)))
        y = self.bn3(y)
        return y + (x if self.downsample is None else self.downsample(x))


class IResNet(nn.Module):
    def __init__(self, layers=(3, 4, 14, 3), embedding_size=512):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64, eps=1e-5)
        self.prelu = nn.PReLU(64)
        blocks, inputs = [], 64
        for outputs, count in zip((64, 128, 256, 512), layers):
            for i in range(count):
                blocks.append(Block(inputs, outputs, 2 if i == 0 else 1))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.bn2 = nn.BatchNorm2d(512, eps=1e-5)
        self.fc = nn.Linear(512 * 7 * 7, embedding_size)
        self.features = nn.BatchNorm1d(embedding_size, eps=1e-5)
        nn.init.constant_(self.features.weight, 1.0)
        self.features.weight.requires_grad = False
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0, 0.1)

    def forward(self, x):
        with torch.autocast(x.device.type, torch.bfloat16):
            x = self.prelu(self.bn1(self.conv1(x)))
            x = torch.flatten(self.bn2(self.blocks(x)), 1)
        return self.features(self.fc(x.float()))


class InPlaceCrossEntropy(torch.autograd.Function):
    """arcface_torch's DistCrossEntropy on one rank: the probabilities take the logits' place."""

    @staticmethod
    def forward(ctx, logits, labels):
        logits.sub_(logits.max(1, keepdim=True).values).exp_()
        logits.div_(logits.sum(1, keepdim=True))
        samples = torch.arange(logits.size(0), device=logits.device)
        ctx.save_for_backward(samples, labels)
        ctx.probabilities = logits
        return -logits[samples, labels].clamp_min(1e-30).log().mean()

    @staticmethod
    def backward(ctx, gradient):
        samples, labels = ctx.saved_tensors
        logits = ctx.probabilities
        logits[samples, labels] -= 1
        return logits.div_(logits.size(0)).mul_(gradient), None


class ArcFace(nn.Module):
    def __init__(self, identities, embedding_size=512):
        super().__init__()
        self.weight = nn.Parameter(torch.normal(0, 0.01, (identities, embedding_size)))

    def forward(self, embeddings, labels):
        with torch.autocast(embeddings.device.type, torch.bfloat16):
            cosine = F.linear(F.normalize(embeddings), F.normalize(self.weight))
        cosine = cosine.float().clamp(-1, 1)
        samples = torch.arange(cosine.size(0), device=cosine.device)
        target = cosine[samples, labels]
        sine = (1 - target.square()).clamp_min(1e-12).sqrt()
        moved = torch.where(target > math.cos(math.pi - MARGIN),
                            target * math.cos(MARGIN) - sine * math.sin(MARGIN),
                            target - MARGIN * math.sin(MARGIN))
        logits = cosine.index_put((samples, labels), moved) * SCALE
        return InPlaceCrossEntropy.apply(logits, labels)


class Training:
    def __init__(self, arguments):
        torch.manual_seed(1)
        self.device = torch.device(arguments.device)
        network = IResNet(arguments.layers).to(self.device, memory_format=torch.channels_last)
        self.network = network.train()
        self.head = ArcFace(arguments.identities).to(self.device).train()
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(self.parameters + list(self.head.parameters()), lr=1e-4,
                                         momentum=0.9, weight_decay=5e-4)
        images = torch.rand(arguments.batch, 3, 112, 112, device=self.device) * 2 - 1
        self.images = images.contiguous(memory_format=torch.channels_last)
        self.labels = torch.randint(arguments.identities, (arguments.batch,), device=self.device)
        self.forward = torch.compile(network) if arguments.compile else network

    def step(self):
        loss = self.head(self.forward(self.images), self.labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 5)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()  # which arcface_torch asks for in every step

    def synchronize(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def measure(arguments):
    training = Training(arguments)
    for _ in range(WARM_UP_STEPS):
        training.step()
    training.synchronize()
    on_gpu = training.device.type == "cuda"
    if on_gpu:  # cuDNN's trials need more than the steps after them
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(arguments.steps):
        begin = time.perf_counter()
        loss = training.step()
        training.synchronize()
        seconds.append(time.perf_counter() - begin)
    return {
        "ms": 1e3 * statistics.median(seconds),
        "loss": loss,
        "peak_used_bytes": torch.cuda.max_memory_allocated() if on_gpu else 0,
        "peak_held_bytes": torch.cuda.max_memory_reserved() if on_gpu else 0,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--identities", type=int, default=85742)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--compile", action="store_true", help="the network by torch.compile")
    parser.add_argument("--layers", type=lambda text: [int(n) for n in text.split(",")],
                        default=[3, 4, 14, 3], help="blocks of each width")
    arguments = parser.parse_args()
    torch.backends.cudnn.benchmark = True  # as arcface_torch has it
    try:
        answer = measure(arguments)
    except torch.OutOfMemoryError:
        answer = {"why_not": "does not fit"}
    except Exception as error:  # torch.compile fails in many ways, none of them ours
        print(error, file=sys.stderr)
        lines = str(error).splitlines() or [""]
        answer = {"why_not": f"failed: {type(error).__name__}: {lines[0]}"}
    answer["torch"] = torch.__version__
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
