"""CIFAR-100, in its binary form."""

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

RECORD_BYTES = 2 + 3 * 32 * 32  # coarse label, fine label, then the red, green and blue plane
SAMPLES = 60000
MAX_LABEL = 99
CLASSES = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus "
    "butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch "
    "crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house "
    "kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle "
    "mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree "
    "plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark "
    "shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table "
    "tank telephone television tiger tractor train trout tulip turtle wardrobe whale "
    "willow_tree wolf woman worm"
)


class CIFAR100:
    """60000 images (3, 32, 32) of 100 classes (Krizhevsky 2009), from `root`/cifar-100-binary.

    The classes are the fine ones. The binary distribution is read, never the pickled one: a pickle
    can run code.
    """

    mirrors: ClassVar[tuple[str, ...]] = ("https://www.cs.toronto.edu/~kriz/",)
    archive: ClassVar[dict[str, Published]] = {
        "cifar-100-binary.tar.gz": Published(168_513_733, "03b5dce01913d631647c71ecec9e9cb8")
    }
    files: ClassVar[dict[str, str]] = {"train": "train.bin", "test": "test.bin"}
    spec: Spec = Spec(
        input_shape=(3, 32, 32),
        class_names=tuple(name.replace("_", " ") for name in CLASSES.split()),
        train_samples=50000,
        test_samples=10000,
        mean=(129.3, 124.1, 112.4),
        std=(68.2, 65.4, 70.4),
    )

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.folder = self.root / "cifar-100-binary"

    def read(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return images (N, 3, 32, 32) and class numbers (N,) of train and test."""
        if not all((self.folder / name).is_file() for name in self.files.values()):
            fetch(self.mirrors, self.archive, self.root, [unpacked_into(self.folder), OWN_IMAGES])
            members = [f"{self.folder.name}/{name}" for name in self.files.values()]
            archive = self.root / next(iter(self.archive))
            unpack(archive, members, self.folder, RECORD_BYTES * SAMPLES)
        return {split: self._read(self.folder / name) for split, name in self.files.items()}

    def _read(self, path: Path) -> tuple[Tensor, Tensor]:
        """Return the images and class numbers in a file; InputError if it is not whole."""
        content = np.fromfile(path, dtype=np.uint8)
        is_whole = len(content) > 0 and len(content) % RECORD_BYTES == 0
        if not is_whole or content[1::RECORD_BYTES].max() > MAX_LABEL:
            raise InputError(
                f"{path} is not a whole CIFAR-100 file; delete it to download it again"
            )
        records = torch.from_numpy(content).view(-1, RECORD_BYTES)
        return records[:, 2:].reshape(-1, *self.spec.input_shape), records[:, 1].to(torch.int64)
