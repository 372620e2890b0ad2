"""Measure training images per second from a folder of image files, against torchvision.

    python -m benchmarks.data [--path cifar10-jpeg] [--workers 2] [--image-size 32]

Two epochs of batches of 128 are read and discarded. The contenders, in turn, with the same number
of workers (one per core):

* `dltrain`            images in memory: threads decode them before the first batch, including
                       validation and test images
* `dltrain, streamed`  decoded by threads in advance; every file is looked at once before the
                       first epoch
* `torchvision`        ImageFolder, ToTensor (and Resize, CenterCrop with --image-size), a
                       DataLoader with worker processes

Every file is read once before the clock starts, so that all contenders find it in the page cache.
The first epoch includes the construction of the dataset. dltrain's batches are standardized,
torchvision's only scaled.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from dltrain.data.images.decode import cores
from dltrain.data.images.folder import Folder
from dltrain.data.images.image_folder import ImageFolder
from dltrain.data.images.listed.listing import FolderListing

BATCH, EPOCHS = 128, 2


def dltrain(path: Path, workers: int, size: int | None, memory: bool) -> Iterator[Iterator[Any]]:
    with tempfile.TemporaryDirectory() as root:  # without an earlier run's cache
        made = ImageFolder(
            Path(root),
            str(path),
            size,
            memory=memory,
            workers=workers,
            batch_size=BATCH,
            val_fraction=0.0,
        )
        for epoch in range(EPOCHS):
            yield made.train.epoch(epoch)


def torchvision(path: Path, workers: int, size: int | None) -> Iterator[Iterator[Any]]:
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    steps = [transforms.Resize(size), transforms.CenterCrop(size)] if size else []
    train = path / "train" if (path / "train").is_dir() else path
    made = datasets.ImageFolder(train, transforms.Compose([*steps, transforms.ToTensor()]))
    loader = DataLoader(made, BATCH, shuffle=True, num_workers=workers, persistent_workers=True)
    for _ in range(EPOCHS):
        yield iter(loader)


def rates(epochs: Iterator[Iterator[Any]]) -> list[float]:
    """Return images per second of each epoch."""
    found, start = [], time.perf_counter()
    for batches in epochs:
        images = sum(len(inputs) for inputs, _ in batches)
        found.append(images / (time.perf_counter() - start))
        start = time.perf_counter()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--path", default="cifar10-jpeg", help="here or in DLTRAIN_DATA")
    parser.add_argument("--workers", type=int, default=cores())
    parser.add_argument("--image-size", type=int)
    arguments = parser.parse_args()
    size, workers = arguments.image_size, arguments.workers
    places = [Path(arguments.path), Path(os.environ.get("DLTRAIN_DATA", "data")) / arguments.path]
    folder = Folder(FolderListing(places), (1, 1), 3, "skip", 0.2, 0, workers)
    paths = [path for files in folder.files.values() for path in files.paths]
    bytes_read = sum(len(Path(path).read_bytes()) for path in paths)
    print(
        f"{len(paths):,} files, {bytes_read / 1e6:,.0f} MB, {workers} workers, "
        f"torch {torch.__version__}"
    )
    found = {
        "torchvision": rates(torchvision(folder.path, workers, size)),
        "dltrain": rates(dltrain(folder.path, workers, size, memory=True)),
        "dltrain, streamed": rates(dltrain(folder.path, workers, size, memory=False)),
    }
    print(
        f"{'images/s (over torchvision)':30}"
        + "".join(f"{f'epoch {k + 1}':>24}" for k in range(EPOCHS))
    )
    for name, values in found.items():
        pairs = zip(values, found["torchvision"], strict=True)
        print(
            f"  {name:28}"
            + "".join(f"{f'{ours:,.0f} ({ours / theirs:.2f})':>24}" for ours, theirs in pairs)
        )


if __name__ == "__main__":
    main()
