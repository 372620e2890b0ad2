"""EMNIST: handwritten letters and digits."""

from __future__ import annotations

import string
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from dltrain.data.images.mnist import belong_together, read_idx
from dltrain.data.io.archive import unpack
from dltrain.data.io.download import OWN_IMAGES, Published, fetch, unpacked_into
from dltrain.errors import InputError
from dltrain.types import Spec

KINDS = ("images-idx3-ubyte", "labels-idx1-ubyte")
LETTERS = string.ascii_uppercase
CASES = string.digits + LETTERS + string.ascii_lowercase
MERGED = string.digits + LETTERS + "abdefghnqrt"  # the other small letters look like their capitals

# Classes, training and test samples of each split: table 2 of the paper; for letters, the files.
SPLITS: dict[str, tuple[str, int, int]] = {
    "balanced": (MERGED, 112800, 18800),
    "letters": (LETTERS, 124800, 20800),
    "digits": (string.digits, 240000, 40000),
    "mnist": (string.digits, 60000, 10000),
    "bymerge": (MERGED, 697932, 116323),
    "byclass": (CASES, 697932, 116323),
}


class EMNIST:
    """Images (1, 28, 28) of one `split` of NIST's letters and digits, from `root`/EMNIST/raw.

    Cohen et al. 2017, "EMNIST: an extension of MNIST to handwritten letters". balanced has 47
    classes with as many samples each, letters 26 in both cases, digits and mnist ten, byclass all
    62, and bymerge those of them that can be distinguished. The files hold images with rows and
    columns exchanged, and count letters from 1; here they stand upright, and count from 0.
    """

    mirrors: ClassVar[tuple[str, ...]] = ("https://biometrics.nist.gov/cs_links/EMNIST/",)
    archive: ClassVar[dict[str, Published]] = {
        "gzip.zip": Published(561_753_746, "58c8d27c78d21e728a6bc7b3cc06412e")
    }

    def __init__(
        self,
        root: Path,
        split: Literal["balanced", "letters", "digits", "mnist", "bymerge", "byclass"] = "balanced",
    ) -> None:
        self.raw, self.split_name = Path(root) / "EMNIST" / "raw", split
        classes, train, test = SPLITS[split]
        self.first = 1 if split == "letters" else 0
        self.spec = Spec((1, 28, 28), tuple(classes), train_samples=train, test_samples=test)

    def read(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return images (N, 1, 28, 28) and class numbers (N,) of train and test."""
        sets = {}
        for part in ("train", "test"):
            images, labels = KINDS
            pixels = self._read(self.file(part, images))
            targets = self._read(self.file(part, labels)).to(torch.int64) - self.first
            if not belong_together(pixels, targets, self.spec.num_classes):
                raise InputError(
                    f"{self.raw}: images and labels of {self.split_name} {part} "
                    "do not belong together"
                )
            sets[part] = (pixels.transpose(1, 2).unsqueeze(1).contiguous(), targets)
        return sets

    def file(self, part: str, kind: str) -> str:
        """Return the name of the file with images or labels of a part."""
        return f"emnist-{self.split_name}-{part}-{kind}"

    def _read(self, name: str) -> Tensor:
        """Return the content of a file, after downloading and unpacking what is absent."""
        for path in (self.raw / name, self.raw / f"{name}.gz", self.raw / "gzip" / f"{name}.gz"):
            if path.is_file():
                return read_idx(path)
        fetch(self.mirrors, self.archive, self.raw, [unpacked_into(self.raw), OWN_IMAGES])
        self._unpack()
        return read_idx(self.raw / "gzip" / f"{name}.gz")

    def _unpack(self) -> None:
        """Unpack the files of the split from the archive."""
        ((archive, known),) = self.archive.items()
        names = [self.file(part, kind) for part in ("train", "test") for kind in KINDS]
        members = [f"gzip/{name}.gz" for name in names]
        unpack(self.raw / archive, members, self.raw / "gzip", known.size)
