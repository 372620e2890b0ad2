"""Measure augmented training images per second: whole batches against one image at a time.

    python -m benchmarks.augmentation [--images 10000] [--workers 2] [--path cifar10-jpeg]
                                      [--device cpu]

Real images of 32x32 pixels (those of the folder, in memory, batches of 128) go through the same
augmentations twice:

* `dltrain`      whole batches on the device, one Python thread
* `torchvision`  the usual way: PIL images, torchvision.transforms.v2 per image, a DataLoader with
                 worker processes

Both produce standardized float batches, which are discarded. One epoch warms up and starts the
workers; the next one counts. Then the folder itself is read through `dataset=image_folder`: the
first epoch decodes every file, the second comes from memory. Run nothing else at the same time.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from dltrain.data.images.image_folder import ImageFolder
from dltrain.data.split import Split
from dltrain.preprocessing.color_jitter import ColorJitter
from dltrain.preprocessing.flip import Flip
from dltrain.preprocessing.rand_augment import RandAugment
from dltrain.preprocessing.random_crop import RandomCrop
from dltrain.preprocessing.random_erasing import RandomErasing
from dltrain.preprocessing.random_resized_crop import RandomResizedCrop
from dltrain.preprocessing.trivial_augment import TrivialAugment
from dltrain.types import Spec

BATCH = 128
MEAN, STD = (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)
USUAL = [v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()]
CHOICES: dict[str, tuple[list[Any], list[Any]]] = {
    "crop, flip": ([RandomCrop(), Flip()], USUAL),
    "resized crop, flip": (
        [RandomResizedCrop(), Flip()],
        [v2.RandomResizedCrop(32), v2.RandomHorizontalFlip()],
    ),
    "crop, flip, color jitter": (
        [RandomCrop(), Flip(), ColorJitter()],
        [*USUAL, v2.ColorJitter(0.4, 0.4, 0.4, 0.1)],
    ),
    "crop, flip, RandAugment": ([RandomCrop(), Flip(), RandAugment()], [*USUAL, v2.RandAugment()]),
    "crop, flip, TrivialAugment": (
        [RandomCrop(), Flip(), TrivialAugment()],
        [*USUAL, v2.TrivialAugmentWide()],
    ),
    "crop, flip, random erasing": (
        [RandomCrop(), Flip(), RandomErasing()],
        USUAL,
    ),  # which comes after ToTensor
}


class Pictures(Dataset[Any]):
    """A dataset of PIL images and their classes, like torchvision's CIFAR-10."""

    def __init__(self, images: torch.Tensor, targets: torch.Tensor, transform: Any) -> None:
        self.images, self.targets, self.transform = (
            images.permute(0, 2, 3, 1).numpy(),
            targets.tolist(),
            transform,
        )

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, i: int) -> Any:
        return self.transform(Image.fromarray(self.images[i])), self.targets[i]


def usual(
    images: torch.Tensor, targets: torch.Tensor, steps: list[Any], erase: bool, workers: int
) -> DataLoader[Any]:
    mean, std = ([value / 255 for value in values] for values in (MEAN, STD))
    end = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]
    transform = v2.Compose([*steps, *end, *([v2.RandomErasing()] if erase else [])])
    made = Pictures(images, targets, transform)
    return DataLoader(
        made, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )


def rate(epoch: Iterable[Any], device: torch.device) -> float:
    """Return images per second."""
    start = time.perf_counter()
    count = sum(len(inputs.to(device)) for inputs, _ in epoch)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return count / (time.perf_counter() - start)


def augmentation(
    images: torch.Tensor, targets: torch.Tensor, workers: int, device: torch.device
) -> None:
    spec = Spec((3, 32, 32), tuple(map(str, range(10))), len(images), 0, MEAN, STD)
    rows = torch.arange(len(images))
    print(f"{'images/s':30}{'dltrain':>12}{'torchvision':>14}{'ratio':>8}")
    for name, (ours, theirs) in CHOICES.items():
        split = Split(images.to(device), targets.to(device), rows, spec, BATCH, 0, ours)
        loader = usual(images, targets, theirs, "erasing" in name, workers)
        found = []
        for epoch in range(2):
            found = [rate(split.epoch(epoch), device), rate(loader, device)]
        print(
            f"  {name:28}{found[0]:12,.0f}{found[1]:14,.0f}{found[0] / found[1]:8.1f}", flush=True
        )


def folder(path: Path) -> None:
    with tempfile.TemporaryDirectory() as root:  # without an earlier run's cache
        start = time.perf_counter()
        made = ImageFolder(Path(root), str(path), memory=True, batch_size=BATCH, val_fraction=0.0)
        seconds = []
        for epoch in range(2):
            count = sum(len(inputs) for inputs, _ in made.train.epoch(epoch))
            seconds.append(time.perf_counter() - start)
            start = time.perf_counter()
    first, second = seconds
    print(
        f"{path.name}: epoch 1 {count / first:,.0f} images/s, epoch 2 {count / second:,.0f}, "
        f"ratio {first / second:.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--path", default="cifar10-jpeg", help="here or in DLTRAIN_DATA")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    data = Path(os.environ.get("DLTRAIN_DATA", "data"))
    path = Path(arguments.path) if Path(arguments.path).exists() else data / arguments.path
    made = ImageFolder(data, str(path), image_size=32, memory=True, val_fraction=0.0)
    images, targets = made.stored.images("train"), made.stored.targets("train")
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[
        : arguments.images
    ]
    print(
        f"{len(chosen):,} images, {arguments.workers} workers, {torch.get_num_threads()} threads, "
        f"{arguments.device}"
    )
    augmentation(images[chosen], targets[chosen], arguments.workers, torch.device(arguments.device))
    folder(path)


if __name__ == "__main__":
    main()
