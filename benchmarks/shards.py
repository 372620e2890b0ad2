"""Measure training from shards: images a second beside a set in memory, and the memory it takes.

    python -m benchmarks.shards speed [--path cifar10-jpeg] [--rounds 6] [--batch-size 64]
    python -m benchmarks.shards memory [--images 400000]

* `speed`: training steps of ResNet-18 on the images of a folder, in memory, from tar files and from
  Parquet files that `dltrain pack` wrote, in turns of BLOCK steps. Every turn begins a new iterator
  of the data set, so that no side decodes ahead during the turn of another.
* `memory`: the peak memory of an epoch over a set of images of noise, of which little fits in the
  memory that it may take, and of one over a tenth of it. No data is needed.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from benchmarks.scale import status_bytes
from dltrain.config.compose import compose
from dltrain.data.images.image_folder import ImageFolder
from dltrain.data.shards.index import KINDS, Index
from dltrain.data.shards.pack import Packing, pack
from dltrain.data.shards.shards import Shards
from dltrain.experiment.experiment import Experiment
from dltrain.types import PackedSet, Spec

BLOCK, WARM_UP = 5, 1  # steps of each in turn, and blocks before anything counts
SHARD_BYTES = 10**7  # so that there are several windows
SIDE = 32  # of the images of noise, in pixels
ALLOWED = 64e6  # bytes that memory may grow by
LR, MOMENTUM = 0.05, 0.9


def training_step(data: Any) -> Callable[[torch.Tensor, torch.Tensor], None]:
    """Return a training step of ResNet-18 for images like those of the data."""
    _, height, _ = data.spec.input_shape
    composed = compose(
        [
            "model=resnet18",
            "dataset=synthetic",
            f"dataset.source.height={height}",
            "dataset.source.width=32",
        ]
    )
    assert not composed.problems, composed.problems
    network: Any = Experiment.to_train(composed.config).task.model
    optimizer = torch.optim.SGD(
        network.parameters(), lr=LR, momentum=MOMENTUM, nesterov=True, fused=True
    )

    def step(inputs: torch.Tensor, targets: torch.Tensor) -> None:
        loss = F.cross_entropy(network(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def measure_speed(path: str, rounds: int, batch_size: int) -> None:
    """Print images a second of each side, and the ratio of each to the set in memory."""
    root = Path(os.environ.get("DLTRAIN_DATA", "data"))
    more: dict[str, Any] = {"batch_size": batch_size, "val_fraction": 0}
    with tempfile.TemporaryDirectory() as name:
        source = ImageFolder(root, path, **more)
        sides: dict[str, Any] = {"memory": ImageFolder(root, path, memory=True, **more)}
        for kind in KINDS:
            folder = Path(name, kind)
            folder.mkdir()
            index = pack(source, folder, Packing(kind, SHARD_BYTES))
            print(f"{kind}: {len(index.shards)} shards")
            sides[kind] = Shards(Path(name), str(folder), shuffle_shards=4, **more)
        step = training_step(source)
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        for number in range(WARM_UP + rounds):
            for side, data in sides.items():
                _ = data.train  # reads the images in memory
                start = time.perf_counter()
                batches = data.train.epoch(number, number * BLOCK)
                for _, (inputs, targets) in zip(range(BLOCK), batches, strict=False):
                    step(inputs, targets)
                batches.close()
                seconds[side].append(time.perf_counter() - start)
    for side, values in seconds.items():
        rate = BLOCK * batch_size * rounds / sum(values[WARM_UP:])
        pairs = zip(seconds["memory"][WARM_UP:], values[WARM_UP:], strict=True)
        ratio = statistics.median(memory / own for memory, own in pairs)
        total = sum(seconds["memory"][WARM_UP:]) / sum(values[WARM_UP:])
        print(
            f"  {side:10} {rate:8,.1f} images/s; of in memory {total:.3f} by total time, "
            f"{ratio:.3f} by the median block"
        )


class Noise:
    """Images of noise that are made when they are packed."""

    def __init__(self, images: int) -> None:
        self.images = images

    def packed_sets(self) -> dict[str, PackedSet]:
        """Return a training set and a few images for testing."""
        return {"train": self.packed(self.images, 0), "test": self.packed(1000, 1)}

    def packed(self, count: int, seed: int) -> PackedSet:
        """Return a set of `count` images."""
        rng = np.random.default_rng(seed)

        def content(row: int) -> tuple[str, bytes]:
            buffer = io.BytesIO()
            pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(buffer, "PNG", compress_level=0)
            return f"{row}.png", buffer.getvalue()

        return PackedSet(torch.arange(count) % 10, content, np.zeros((count, 2, 3)))

    def packed_spec(self) -> Spec:
        """Return the shape and the classes."""
        return Spec((3, SIDE, SIDE), tuple("abcdefghij"), self.images, 1000)

    def packed_pixels(self) -> dict[str, Any]:
        """Return the rule of images that are bytes already."""
        return {"ranges": {}, "background": None}


def epoch_peak(folder: str) -> None:
    """Print the peak memory of this process after an epoch of training batches."""
    data = Shards(Path(folder).parent, folder, shuffle_shards=4)
    samples = sum(len(inputs) for inputs, _ in data.train.epoch(0))
    print(f"{samples} {status_bytes('VmHWM')}")


def measure_memory(images: int) -> None:
    """Print the peak memory of an epoch of a set, and of one of a tenth of it."""
    print(f"memory may grow by {ALLOWED / 1e6:.0f} MB")
    for kind in KINDS:
        peaks = []
        for count in (images // 10, images):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name, "set")
                folder.mkdir()
                size = total_bytes(pack(Noise(count), folder, Packing(kind, SHARD_BYTES)))
                command = [
                    sys.executable,
                    "-m",
                    "benchmarks.shards",
                    "epoch",
                    "--path",
                    str(folder),
                ]
                start = time.perf_counter()
                printed = subprocess.run(command, check=True, capture_output=True, text=True)
                seconds = time.perf_counter() - start
                samples, peak = map(int, printed.stdout.split())
            peaks.append(peak)
            print(
                f"  {kind:10} {samples:9,} training images, {size / 1e6:8,.0f} MB: "
                f"peak {peak / 1e6:,.0f} MB, {seconds:.0f} s"
            )
        growth = peaks[1] - peaks[0]
        print(
            f"  {kind:10} memory grows by {growth / 1e6:.1f} MB, "
            f"1 / {size / max(1, growth):.0f} of the set"
        )


def total_bytes(index: Index) -> int:
    """Return the bytes of all shards."""
    return sum(shard.bytes for shard in index.shards)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("speed", "memory", "epoch"))
    parser.add_argument("--path", default="cifar10-jpeg")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--images", type=int, default=400_000)
    arguments = parser.parse_args()
    logging.getLogger("dltrain").setLevel(logging.ERROR)
    if arguments.what == "epoch":
        epoch_peak(arguments.path)
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {os.cpu_count()} cores")
    if arguments.what == "speed":
        measure_speed(arguments.path, arguments.rounds, arguments.batch_size)
    else:
        measure_memory(arguments.images)


if __name__ == "__main__":
    main()
