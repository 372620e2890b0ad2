"""CIFAR-10, in its binary form."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from dltrain.data.io.archive import unpack
from dltrain.data.io.download import OWN_IMAGES, Published, fetch, unpacked_into
from dltrain.errors import InputError
from dltrain.types import Spec

RECORD_BYTES = 1 + 3 * 32 * 32  # label, then the red, green and blue plane
SAMPLES = 60000
MAX_LABEL = 9


class CIFAR10:
    """60000 images (3, 32, 32) of ten classes (Krizhevsky 2009), from `root`/cifar-10-batches-bin.

    The binary distribution is read, never the pickled one: a pickle can run code.
    """

    mirrors: ClassVar[tuple[str, ...]] = ("https://www.cs.toronto.edu/~kriz/",)
    archive: ClassVar[dict[str, Published]] = {
        "cifar-10-binary.tar.gz": Published(170_052_171, "c32a1d4ab5d03f1284b67883e8d87530")
    }
    files: ClassVar[dict[str, tuple[str, ...]]] = {
        "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
        "test": ("test_batch.bin",),
    }
    spec: Spec = Spec(
        input_shape=(3, 32, 32),
        class_names=(
            *("airplane", "automobile", "bird", "cat", "deer"),
            *("dog", "frog", "horse", "ship", "truck"),
        ),
        train_samples=50000,
        test_samples=10000,
        mean=(125.3, 123.0, 113.9),
        std=(63.0, 62.1, 66.7),
    )

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.folder = self.root / "cifar-10-batches-bin"

    def read(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return images (N, 3, 32, 32) and class numbers (N,) of train and test."""
        names = [name for names in self.files.values() for name in names]
        if not all((self.folder / name).is_file() for name in names):
            fetch(self.mirrors, self.archive, self.root, [unpacked_into(self.folder), OWN_IMAGES])
            members = [f"{self.folder.name}/{name}" for name in names]
            archive = self.root / next(iter(self.archive))
            unpack(archive, members, self.folder, RECORD_BYTES * SAMPLES)
        return {split: self._read(names) for split, names in self.files.items()}

    def _read(self, names: tuple[str, ...]) -> tuple[Tensor, Tensor]:
        """Return the images and class numbers in some files."""
        records = [self._records(self.folder / name) for name in names]
        images = torch.empty((sum(map(len, records)), *self.spec.input_shape), dtype=torch.uint8)
        parts = [part[:, 1:].view(-1, *self.spec.input_shape) for part in records]
        torch.cat(parts, out=images)
        return images, torch.cat([part[:, 0].to(torch.int64) for part in records])

    def _records(self, path: Path) -> Tensor:
        """Return the records (N, 3073) of bytes in a file; InputError if it is not whole."""
        content = np.fromfile(path, dtype=np.uint8)
        is_whole = len(content) > 0 and len(content) % RECORD_BYTES == 0
        if not is_whole or content[::RECORD_BYTES].max() > MAX_LABEL:
            raise InputError(f"{path} is not a whole CIFAR-10 file; delete it to download it again")
        return torch.from_numpy(content).view(-1, RECORD_BYTES)
