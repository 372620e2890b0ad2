"""Measure the latency of a network before and after half of its channels are removed.

    python -m benchmarks.pruning [--models cnn resnet_small] [--fraction 0.5] [--rounds 30]

Both networks predict the same inputs in turns, on one thread; the table shows the medians in
milliseconds and their ratio, for batches of 1 and 64. Weights are not trained: the latency depends
on the shapes alone.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dltrain.config.compose import compose
from dltrain.experiment.experiment import Experiment
from dltrain.tasks.compression.pruned.channels import Channels

BATCHES = (1, 64)
WARM_UP = 3


def networks(model: str, fraction: float) -> tuple[nn.Module, nn.Module, tuple[int, ...]]:
    """Return the dense network of MNIST images, the smaller one, and the shape of an input."""
    config = compose([f"model={model}", "dataset=mnist", "debug=smoke", "device=cpu"]).config
    experiment = Experiment.to_train(config)
    dense = experiment.model.eval()
    smaller = copy.deepcopy(dense)
    spec = experiment.data.spec
    Channels(dense, spec, "layer", ()).prune(smaller, fraction)
    return dense, smaller, spec.input_shape


@torch.no_grad()
def seconds(network: nn.Module, inputs: Tensor) -> float:
    """Return the seconds of a pass."""
    start = time.perf_counter()
    network(inputs)
    return time.perf_counter() - start


def medians(contenders: Sequence[nn.Module], inputs: Tensor, rounds: int) -> list[float]:
    """Return the median seconds of each network; they take turns."""
    times: list[list[float]] = [[] for _ in contenders]
    for number in range(rounds + WARM_UP):
        for network, own in zip(contenders, times, strict=True):
            taken = seconds(network, inputs)
            if number >= WARM_UP:
                own.append(taken)
    return [statistics.median(own) for own in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["cnn", "resnet_small"])
    parser.add_argument("--fraction", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| model | batch | parameters | smaller | dense ms | smaller ms | ratio |")
    print("|---|---|---|---|---|---|---|")
    for model in args.models:
        dense, smaller, shape = networks(model, args.fraction)
        sizes = [sum(p.numel() for p in network.parameters()) for network in (dense, smaller)]
        for batch in BATCHES:
            before, after = medians((dense, smaller), torch.randn(batch, *shape), args.rounds)
            figures = f"{1000 * before:.2f} | {1000 * after:.2f} | {before / after:.2f}"
            print(f"| {model} | {batch} | {sizes[0]:,} | {sizes[1]:,} | {figures} |")


if __name__ == "__main__":
    main()
