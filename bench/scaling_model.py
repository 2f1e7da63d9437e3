"""What a training step should take on machines we do not have: the model of docs/scaling.md.

    python bench/scaling_model.py [--set NAME=VALUE]...       prints its tables, in Markdown

Times are seconds, sizes bytes, rates bytes or operations a second. Every constant is a field of
Cluster, Network or Job, with where it comes from; --set changes a field of Cluster.
"""

import argparse
import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Cluster:
    """One GPU, and its two links. Rates are what is reached, not what is printed on the box."""

    peak: float = 989e12  # H100 SXM, bfloat16, dense
    # Of the peak, by convolutions of large batches. arcface_torch's own table has r50 at 5,004
    # images/s on 8 V100: 19 % of their 125 TFLOP/s.
    network_share: float = 0.20
    half_batch: float = 8  # images at which a GPU reaches half of that
    product_share: float = 0.50  # of the peak, by the head's products
    memory: float = 0.8 * 3.35e12  # HBM3
    gpus_per_node: int = 8
    nvlink: float = 0.8 * 450e9  # a direction, a GPU
    network: float = 0.9 * 50e9  # 400 Gb/s InfiniBand for each GPU
    nvlink_latency: float = 3e-6  # of a step of a tree within a node
    network_latency: float = 6e-6  # of one between nodes
    launch: float = 10e-6  # of any collective


@dataclasses.dataclass(frozen=True)
class Network:
    name: str
    parameters: float
    multiply_adds: float  # forward, one image


R50 = Network("r50", 43.6e6, 6.31e9)
R100 = Network("r100", 65.2e6, 12.1e9)


@dataclasses.dataclass(frozen=True)
class Job:
    network: Network
    identities: int
    embedding_size: int = 512
    gradient_bytes: int = 4  # an element; 2: communication.gradient_precision bf16
    bucket: float = 25 * 2**20
    overlap: bool = True


JOBS = [
    ("r50, 93,431 identities", Job(R50, 93_431)),
    ("r100, 360,232 identities", Job(R100, 360_232)),
    ("r100, 2,000,000 identities", Job(R100, 2_000_000)),
]


def ring(size, ranks, alpha, beta):
    """All-reduce of `size` over one kind of link: reduce-scatter, then all-gather."""
    return 2 * (ranks - 1) * alpha + 2 * (ranks - 1) / ranks * size * beta


def shape(cluster, gpus):
    """GPUs in a node, and nodes."""
    inside = min(gpus, cluster.gpus_per_node)
    return inside, math.ceil(gpus / inside)


def all_gather(cluster, total, gpus):
    """`total` is of all ranks. Between nodes each GPU fetches from its like 1/inside of it; within
    a node they share it. A reduce-scatter is its mirror."""
    if gpus == 1:
        return 0.0
    inside, nodes = shape(cluster, gpus)
    latency = (
        cluster.launch
        + math.ceil(math.log2(inside)) * cluster.nvlink_latency
        + math.ceil(math.log2(nodes)) * cluster.network_latency
    )
    between = (nodes - 1) / nodes * total / inside / cluster.network
    within = (inside - 1) / inside * total / cluster.nvlink
    return latency + between + within


reduce_scatter = all_gather


def all_reduce(cluster, size, gpus):
    if gpus == 1:
        return 0.0
    return 2 * all_gather(cluster, size, gpus) - cluster.launch


@dataclasses.dataclass
class Step:
    """The parts of a step, one after the other; `hidden` is what overlap took off."""

    backbone: float
    head: float
    exchange: float  # embeddings, softmax, embedding gradients
    gradients: float  # on the link
    hidden: float
    update: float

    @property
    def total(self):
        return (
            self.backbone + self.head + self.exchange + self.gradients - self.hidden + self.update
        )


def step(cluster, job, gpus, batch):
    """`batch` is of one GPU, at least a part of an image."""
    network = job.network
    share = cluster.network_share * batch / (batch + cluster.half_batch)
    backbone = 3 * 2 * network.multiply_adds * batch / (cluster.peak * share)

    total = batch * gpus
    dim = job.embedding_size
    rows = job.identities / gpus
    products = 4 * 2 * total * rows * dim / (cluster.peak * cluster.product_share)
    # Rows are read in both passes, rows and momentum are read and written by the update.
    traffic = 5 * 4 * rows * dim / cluster.memory
    head = max(products, traffic)

    exchange = all_gather(cluster, total * (4 * dim + 12), gpus)  # with norm and label
    exchange += 3 * all_reduce(cluster, 8 * total, gpus)  # targets, maxima, sums
    exchange += reduce_scatter(cluster, 4 * total * dim, gpus)

    size = job.gradient_bytes * network.parameters
    gradients = all_reduce(cluster, size, gpus)
    # The last bucket is whole when the backward pass, two thirds of the time, is over.
    last = min(gradients, all_reduce(cluster, min(size, job.bucket), gpus))
    hidden = min(gradients - last, 2 / 3 * backbone) if job.overlap else 0.0
    update = 5 * 4 * network.parameters / cluster.memory
    return Step(backbone, head, exchange, gradients, hidden, update)


def percent(part, whole):
    return f"{100 * part / whole:.0f} %"


def table(cluster, job, batch_of, gpu_counts):
    """`batch_of(gpus)` images a GPU. Efficiency: images a second and GPU, next to the first line's."""
    lines = [
        "| GPUs | images a GPU | step | backbone | head | exchange | gradients, not hidden | update "
        "| images/s | efficiency |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    first = None
    for gpus in gpu_counts:
        batch = batch_of(gpus)
        s = step(cluster, job, gpus, batch)
        rate = batch * gpus / s.total
        first = first or rate / gpus
        lines.append(
            f"| {gpus} | {batch:g} | {1e3 * s.total:.2f} ms | {percent(s.backbone, s.total)} "
            f"| {percent(s.head, s.total)} | {percent(s.exchange, s.total)} "
            f"| {percent(s.gradients - s.hidden, s.total)} | {percent(s.update, s.total)} "
            f"| {rate:,.0f} | {percent(rate / gpus, first)} |"
        )
    return "\n".join(lines)


GPU_COUNTS = [1, 8, 64, 512]
WEAK_BATCH = 128
STRONG_BATCH = 4096


def report(cluster):
    parts = []
    for name, job in JOBS:
        parts.append(f"**{name}**, weak scaling: {WEAK_BATCH} images a GPU\n")
        parts.append(table(cluster, job, lambda gpus: WEAK_BATCH, GPU_COUNTS) + "\n")
        parts.append(f"**{name}**, strong scaling: {STRONG_BATCH} images a step\n")
        parts.append(table(cluster, job, lambda gpus: STRONG_BATCH / gpus, GPU_COUNTS[1:]) + "\n")
    return "\n".join(parts)


def parse_cluster(settings):
    changes = {}
    known = {field.name: field.type for field in dataclasses.fields(Cluster)}
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in known:
            raise SystemExit(f"scaling_model.py: no constant {name}: there are {', '.join(known)}")
        changes[name] = int(value) if known[name] is int else float(value)
    return dataclasses.replace(Cluster(), **changes)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    print(report(parse_cluster(parser.parse_args().set)))


if __name__ == "__main__":
    main()
