"""Compute bytes and seconds of a training step on many GPUs, on paper: nothing is trained.

    python -m benchmarks.scaling [--images-per-second 2470] [--tokens-per-second 46037]
        [--link-efficiency 0.8] [--weight-bytes 4] [--gradient-bytes 4] [--bucket-mib 25]

It prints the tables of docs/scaling.md, which explains the formulas. Parameters are counted in
dltrain's own networks. Speeds of GPUs and links are published figures and can be replaced by your
own.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from dltrain.acceleration.activations import repeated_blocks
from dltrain.models.images.resnet import ResNet
from dltrain.models.text.transformer import TransformerLanguageModel

GPUS = (8, 64, 512)
IMAGES_PER_SECOND = 2470  # of an A100, mixed precision: NVIDIA/DeepLearningExamples
TOKENS_PER_SECOND = 46037  # of an H100, one of 16: mosaicml/llm-foundry, scripts/train/benchmarking
MEASURED = ((16, 46037), (32, 45130), (64, 44402))  # H100 GPUs, tokens a second of each; ditto
MEASURED_8 = 16621 / 8  # images a second of each of eight A100
PER_NODE = 8
MANY = 4096  # GPUs, up to which a limit is looked for
ENOUGH = 0.9  # an efficiency
IMAGENET_TRAINING = 1_281_167  # images
IMAGENET_VALIDATION = 50_000
EVALUATION_ROWS = 64  # of a batch: dataset.eval_batch_size
GIGA = 1e9
MIB = 2**20
MICRO = 1e-6
BACKWARD = 2 / 3  # of a step: two products of matrices for one in the forward pass

# NVIDIA/nccl, src/graph/tuning.cc (commit 01afd20): ring and tree, protocols Simple and LL
START_SECONDS = 8.4 * MICRO  # of a collective operation
NVLINK_SECONDS = 3.4 * MICRO  # a hop of a ring in a node
NETWORK_SECONDS = 9.6 * MICRO  # a hop of a ring between nodes
SMALL_START_SECONDS = 4.4 * MICRO  # of a reduction of a few numbers, through a tree
SMALL_NVLINK_SECONDS = 0.94 * MICRO
SMALL_NETWORK_SECONDS = 5.0 * MICRO
TCP_SECONDS = 50 * MICRO  # a hop of an order of process 0; assumed
SMALL_REDUCTIONS = 2  # of a step: the weight of the loss, and the metrics

NVLINK = 450 * GIGA  # fourth generation: 18 links of 25 GB/s in each direction


@dataclass(frozen=True)
class Links:
    """Links of nodes with eight GPUs; bytes a second in one direction.

    `nvlink` is what a GPU has within its node, `network` what a node has to others.
    """

    name: str
    nvlink: float
    network: float


LINKS = (
    Links("NVLink 4, 8 x NDR 400 Gb/s", NVLINK, 8 * 50 * GIGA),
    Links("NVLink 4, one 100 GbE", NVLINK, 12.5 * GIGA),
)


@dataclass(frozen=True)
class Workload:
    """A network and how fast one GPU trains it without communication.

    `blocks` repeated blocks of `block_params` parameters are divided one by one; the rest of
    `params` is divided as a whole. `rows` of a batch are on each GPU; a row takes `row_seconds`.
    `moments` are the floats that the optimizer keeps for a parameter.
    """

    name: str
    row: str
    params: int
    blocks: int
    block_params: int
    rows: int
    row_seconds: float
    moments: int
    common_rows: int

    @property
    def root_params(self) -> int:
        """The parameters outside of the repeated blocks."""
        return self.params - self.blocks * self.block_params

    @property
    def seconds(self) -> float:
        """The computation of a step."""
        return self.rows * self.row_seconds


@dataclass(frozen=True)
class Bytes:
    """The bytes of a weight and of a gradient that are sent, and those of a bucket of gradients."""

    weight: float = 4
    gradient: float = 4
    bucket: float = 25 * MIB


@dataclass(frozen=True)
class Cluster:
    """GPUs in nodes, and their links at the speed that is reached."""

    gpus: int
    links: Links
    per_node: int = PER_NODE

    @property
    def local(self) -> int:
        """The GPUs of a node that take part."""
        return min(self.gpus, self.per_node)

    @property
    def nodes(self) -> int:
        """The nodes that take part."""
        return math.ceil(self.gpus / self.per_node)

    @property
    def ring_speed(self) -> float:
        """The bytes a second of a ring through all GPUs: that of its slowest link."""
        if self.nodes == 1:
            return self.links.nvlink
        return min(self.links.nvlink, self.links.network)


def ring_seconds(size: float, gpus: int, speed: float, hop_seconds: float) -> float:
    """Return the seconds of a ring that gathers, or reduces and scatters, `size` bytes.

    Each GPU sends (N-1)/N of them in N-1 hops.
    """
    if gpus == 1:
        return 0.0
    return (gpus - 1) / gpus * size / speed + hop_seconds


def gather_seconds(size: float, cluster: Cluster) -> float:
    """Return the seconds of an all-gather or a reduce-scatter, by one ring through all GPUs."""
    if cluster.gpus == 1:
        return 0.0
    between = cluster.nodes - 1
    within = cluster.gpus - 1 - between
    hops = within * NVLINK_SECONDS + between * NETWORK_SECONDS
    return START_SECONDS + ring_seconds(size, cluster.gpus, cluster.ring_speed, hops)


def flat_seconds(size: float, cluster: Cluster) -> float:
    """Return the seconds of an all-reduce by one ring: reduce-scatter and all-gather."""
    if cluster.gpus == 1:
        return 0.0
    return 2 * gather_seconds(size, cluster) - START_SECONDS


def hierarchical_seconds(size: float, cluster: Cluster) -> float:
    """Return the seconds of an all-reduce by rings within nodes and rings between them.

    Each GPU reduces its part of the bytes over the nodes, so that those of a node share its
    network.
    """
    if cluster.gpus == 1:
        return 0.0
    local = cluster.local
    nodes = cluster.nodes
    within = ring_seconds(size, local, cluster.links.nvlink, (local - 1) * NVLINK_SECONDS)
    between = ring_seconds(size, nodes, cluster.links.network, (nodes - 1) * NETWORK_SECONDS)
    return START_SECONDS + 2 * within + 2 * between


def all_reduce_seconds(size: float, cluster: Cluster) -> float:
    """Return the seconds of the faster all-reduce; NCCL chooses by such an estimate, too."""
    return min(flat_seconds(size, cluster), hierarchical_seconds(size, cluster))


def small_seconds(cluster: Cluster) -> float:
    """Return the seconds of what dltrain exchanges in every step besides gradients and weights."""
    if cluster.gpus == 1:
        return 0.0
    within = (cluster.local - 1) * SMALL_NVLINK_SECONDS
    between = math.log2(cluster.nodes) * SMALL_NETWORK_SECONDS
    reduction = SMALL_START_SECONDS + 2 * (within + between)
    order = math.ceil(math.log2(cluster.gpus)) * TCP_SECONDS
    return SMALL_REDUCTIONS * reduction + order


def ddp_bytes(workload: Workload, gpus: int, sizes: Bytes) -> float:
    """Return the bytes that a GPU sends in a step of data parallel."""
    return 2 * (gpus - 1) / gpus * workload.params * sizes.gradient


def fsdp_bytes(workload: Workload, gpus: int, sizes: Bytes) -> float:
    """Return the bytes that a GPU sends in a step of FSDP2: two gathers and one scatter."""
    blocks = workload.blocks * workload.block_params
    gathered = (workload.params + blocks) * sizes.weight  # the rest is kept for the backward pass
    scattered = workload.params * sizes.gradient
    return (gpus - 1) / gpus * (gathered + scattered)


def ddp_step(workload: Workload, cluster: Cluster, sizes: Bytes) -> float:
    """Return the seconds of a step of data parallel.

    Buckets of gradients are reduced one after the other, while the backward pass computes the next.
    """
    size = workload.params * sizes.gradient
    buckets = math.ceil(size / sizes.bucket)
    reduction = all_reduce_seconds(size / buckets, cluster)
    bucket_backward = workload.seconds * BACKWARD / buckets
    exposed = reduction + (buckets - 1) * max(0.0, reduction - bucket_backward)
    return workload.seconds + exposed + small_seconds(cluster)


def fsdp_step(workload: Workload, cluster: Cluster, sizes: Bytes) -> float:
    """Return the seconds of a step of FSDP2.

    While a block is computed, the weights of the next one are gathered; in the backward pass the
    gradients of the block before are reduced and scattered, too.
    """
    blocks = workload.blocks
    forward = workload.seconds * (1 - BACKWARD) / blocks
    backward = workload.seconds * BACKWARD / blocks
    gather = gather_seconds(workload.block_params * sizes.weight, cluster)
    scatter = gather_seconds(workload.block_params * sizes.gradient, cluster)
    root_gather = gather_seconds(workload.root_params * sizes.weight, cluster)
    root_scatter = gather_seconds(workload.root_params * sizes.gradient, cluster)
    first = root_gather + gather + (blocks - 1) * max(forward, gather) + forward
    second = gather + (blocks - 1) * max(backward, gather + scatter) + backward + scatter
    return first + second + root_scatter + small_seconds(cluster)


Step = Callable[[Workload, Cluster, Bytes], float]
STEPS: dict[str, Step] = {"ddp": ddp_step, "fsdp": fsdp_step}
SENT = {"ddp": ddp_bytes, "fsdp": fsdp_bytes}


def efficiency(step: Step, workload: Workload, cluster: Cluster, sizes: Bytes) -> float:
    """Return the part of a step that is computation."""
    return workload.seconds / step(workload, cluster, sizes)


def rows_needed(step: Step, workload: Workload, cluster: Cluster, sizes: Bytes) -> int:
    """Return the smallest number of rows on a GPU with enough efficiency."""
    rows = 1
    while efficiency(step, replace(workload, rows=rows), cluster, sizes) < ENOUGH:
        rows += 1
    return rows


def gpus_that_pay(step: Step, workload: Workload, links: Links, sizes: Bytes) -> int:
    """Return the largest power of two of GPUs with enough efficiency, in a batch of fixed size."""
    gpus = 1
    while gpus < min(MANY, workload.common_rows):
        divided = replace(workload, rows=workload.common_rows // (2 * gpus))
        if efficiency(step, divided, Cluster(2 * gpus, links), sizes) < ENOUGH:
            break
        gpus *= 2
    return gpus


def ddp_memory(workload: Workload) -> float:
    """Return the bytes of weights, gradients, buckets and moments, and bf16 copies of weights."""
    return workload.params * (4 + 4 + 4 + 4 * workload.moments + 2)


def fsdp_memory(workload: Workload, gpus: int) -> float:
    """Return the bytes of a GPU's part, of gathered weights and of gradients to be scattered.

    Two blocks and the rest of the network are whole at a time. Autocast keeps whole bf16 copies of
    the weights until the backward pass.
    """
    own = workload.params * (4 + 4 + 4 * workload.moments) / gpus
    whole = (workload.root_params + 2 * workload.block_params) * (4 + 4)
    return own + whole + workload.params * 2


def resnet50(images_per_second: float) -> Workload:
    """Return ResNet-50 on ImageNet, with SGD and momentum."""
    with torch.device("meta"):
        network = ResNet(in_channels=3, image_size=(224, 224), num_classes=1000, depth=50)
    return counted(
        network,
        Workload(
            name="ResNet-50",
            row="image",
            params=0,
            blocks=0,
            block_params=0,
            rows=256,
            row_seconds=1 / images_per_second,
            moments=1,
            common_rows=8192,
        ),
    )


def transformer(tokens_per_second: float) -> Workload:
    """Return a Transformer of 1.3 billion parameters on sequences of 2,048 tokens, with AdamW."""
    length = 2048
    with torch.device("meta"):
        network = TransformerLanguageModel(
            vocab_size=50368, max_length=length, num_layers=24, dim=2048, num_heads=16
        )
    return counted(
        network,
        Workload(
            name="Transformer 1.3B",
            row="sequence",
            params=0,
            blocks=0,
            block_params=0,
            rows=20,
            row_seconds=length / tokens_per_second,
            moments=2,
            common_rows=1024,
        ),
    )


def counted(network: nn.Module, workload: Workload) -> Workload:
    """Return a workload with the parameters of a network; blocks have their mean size."""
    blocks = repeated_blocks(network)
    params = sum(param.numel() for param in network.parameters())
    in_blocks = sum(param.numel() for block in blocks for param in block.parameters())
    return replace(
        workload, params=params, blocks=len(blocks), block_params=in_blocks // len(blocks)
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:,.1f} ms"


def gigabytes(size: float) -> str:
    return f"{size / GIGA:.3g} GB"


def workload_table(workloads: Sequence[Workload]) -> Iterator[str]:
    """Yield the table of what is trained."""
    header = ("network", "parameters", "repeated blocks", "outside of them", "rows per GPU")
    rows = (
        (
            one.name,
            f"{one.params:,}",
            f"{one.blocks} of {one.block_params:,}",
            f"{one.root_params:,}",
            f"{one.rows} {one.row}s",
            milliseconds(one.seconds),
        )
        for one in workloads
    )
    yield from table((*header, "computation of a step"), rows)


def bytes_table(workloads: Sequence[Workload], sizes: Bytes) -> Iterator[str]:
    """Yield the table of bytes that a GPU sends in a step."""
    rows = (
        (one.name, name, *(gigabytes(sent(one, gpus, sizes)) for gpus in GPUS))
        for one in workloads
        for name, sent in SENT.items()
    )
    yield from table(("network", "parallel", *(f"{gpus} GPUs" for gpus in GPUS)), rows)


def reduction_table(
    workloads: Sequence[Workload], links: Sequence[Links], sizes: Bytes
) -> Iterator[str]:
    """Yield the table of two ways to reduce the gradients at once, and of a bucket of them."""
    rows = (
        (
            name,
            one.name,
            str(gpus),
            milliseconds(flat_seconds(size, Cluster(gpus, one))),
            milliseconds(hierarchical_seconds(size, Cluster(gpus, one))),
        )
        for name, size in (
            ("a bucket", sizes.bucket),
            *((f"all of {work.name}", work.params * sizes.gradient) for work in workloads),
        )
        for one in links
        for gpus in GPUS
    )
    header = ("gradients", "links", "GPUs", "one ring", "rings within and between nodes")
    yield from table(header, rows)


def step_table(
    workloads: Sequence[Workload], links: Sequence[Links], sizes: Bytes
) -> Iterator[str]:
    """Yield the table of steps with the same rows on every GPU."""
    rows = (
        (one.name, link.name, name, *timed(step, one, link, sizes))
        for one in workloads
        for link in links
        for name, step in STEPS.items()
    )
    header = ("network", "links", "parallel", *(f"{gpus} GPUs" for gpus in GPUS))
    yield from table(header, rows)


def timed(step: Step, workload: Workload, links: Links, sizes: Bytes) -> Iterator[str]:
    """Yield the seconds of a step beyond its computation, and the efficiency."""
    for gpus in GPUS:
        seconds = step(workload, Cluster(gpus, links), sizes)
        wait = milliseconds(seconds - workload.seconds)
        yield f"+{wait}, {percent(workload.seconds / seconds)}"


def limit_table(
    workloads: Sequence[Workload], links: Sequence[Links], sizes: Bytes
) -> Iterator[str]:
    """Yield the table of where efficiency falls below 90 %."""
    rows = (
        (
            one.name,
            link.name,
            name,
            *(str(rows_needed(step, one, Cluster(gpus, link), sizes)) for gpus in GPUS),
            str(gpus_that_pay(step, one, link, sizes)),
        )
        for one in workloads
        for link in links
        for name, step in STEPS.items()
    )
    needed = (f"rows per GPU, {gpus} GPUs" for gpus in GPUS)
    header = ("network", "links", "parallel", *needed, "most GPUs, fixed batch")
    yield from table(header, rows)


def memory_table(workloads: Sequence[Workload]) -> Iterator[str]:
    """Yield the table of memory of a GPU, without activations."""
    rows = (
        (
            one.name,
            gigabytes(ddp_memory(one)),
            *(gigabytes(fsdp_memory(one, gpus)) for gpus in GPUS),
        )
        for one in workloads
    )
    header = ("network", "ddp, any number", *(f"fsdp, {gpus} GPUs" for gpus in GPUS))
    yield from table(header, rows)


def measured_table(image: Workload, text: Workload, links: Links, sizes: Bytes) -> Iterator[str]:
    """Yield the table of published efficiencies beside computed ones."""
    eight = Cluster(8, links)
    published = percent(MEASURED_8 * image.row_seconds)
    computed = efficiency(ddp_step, image, eight, sizes)
    rows = [(image.name, "ddp", "8", "1", published, percent(computed))]
    first_gpus, first_speed = MEASURED[0]
    first_step = fsdp_step(text, Cluster(first_gpus, links), sizes)
    for gpus, speed in MEASURED[1:]:
        computed = first_step / fsdp_step(text, Cluster(gpus, links), sizes)
        published = percent(speed / first_speed)
        rows.append((text.name, "fsdp", str(gpus), str(first_gpus), published, percent(computed)))
    header = ("network", "parallel", "GPUs", "against", "published", "computed")
    yield from table(header, rows)


def evaluation_table(workload: Workload) -> Iterator[str]:
    """Yield the table of an epoch of ImageNet and the evaluation of its validation images.

    Process 0 makes it alone, or every process scores some of the batches.
    """
    alone = evaluation_seconds(workload, 1)
    rows = []
    for gpus in GPUS:
        epoch = IMAGENET_TRAINING * workload.row_seconds / gpus
        divided = evaluation_seconds(workload, gpus)
        row = [str(gpus), f"{epoch:.1f} s"]
        for evaluation in (alone, divided):
            row += [f"{evaluation:.2f} s", percent(epoch / (epoch + evaluation))]
        rows.append(row)
    header = ("GPUs", "training of an epoch", "evaluation by process 0", "training part")
    yield from table((*header, "divided evaluation", "training part of it"), rows)


def evaluation_seconds(workload: Workload, processes: int) -> float:
    """Return the seconds of the process with most batches; a forward pass is a third of a step."""
    batches = math.ceil(math.ceil(IMAGENET_VALIDATION / EVALUATION_ROWS) / processes)
    images = min(batches * EVALUATION_ROWS, IMAGENET_VALIDATION)
    return images * workload.row_seconds * (1 - BACKWARD)


def tables(
    images_per_second: float = IMAGES_PER_SECOND,
    tokens_per_second: float = TOKENS_PER_SECOND,
    link_efficiency: float = 0.8,
    sizes: Bytes | None = None,
) -> Iterator[str]:
    """Yield the lines of all tables."""
    sizes = sizes or Bytes()
    workloads = (resnet50(images_per_second), transformer(tokens_per_second))
    links = [
        replace(one, nvlink=one.nvlink * link_efficiency, network=one.network * link_efficiency)
        for one in LINKS
    ]
    yield from workload_table(workloads)
    yield from bytes_table(workloads, sizes)
    yield from reduction_table(workloads, links, sizes)
    yield from step_table(workloads, links, sizes)
    yield from limit_table(workloads, links, sizes)
    yield from memory_table(workloads)
    yield from evaluation_table(workloads[0])
    yield from measured_table(*workloads, links[0], sizes)


def positive(text: str) -> float:
    """Return a positive number of the command line."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--images-per-second", type=positive, default=IMAGES_PER_SECOND)
    parser.add_argument("--tokens-per-second", type=positive, default=TOKENS_PER_SECOND)
    parser.add_argument("--link-efficiency", type=positive, default=0.8)
    parser.add_argument("--weight-bytes", type=positive, default=4)
    parser.add_argument("--gradient-bytes", type=positive, default=4)
    parser.add_argument("--bucket-mib", type=positive, default=25)
    args = parser.parse_args(argv)
    sizes = Bytes(args.weight_bytes, args.gradient_bytes, args.bucket_mib * MIB)
    lines = tables(args.images_per_second, args.tokens_per_second, args.link_efficiency, sizes)
    print("\n".join(lines), end="")


if __name__ == "__main__":
    main()
