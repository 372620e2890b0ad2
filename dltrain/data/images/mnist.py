"""MNIST and the sets in its file format."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from dltrain.data.io.download import OWN_IMAGES, Published, fetch
from dltrain.errors import InputError
from dltrain.types import Spec

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
MAX_DEFLATE_RATIO = 1032  # bytes that one byte of a gzip file can stand for (zlib's manual)
UNSIGNED_BYTES = 8  # the type of the values in an IDX file


def read_idx(path: Path) -> Tensor:
    """Return the uint8 array of an IDX file (plain or .gz); InputError if it is not a whole one."""
    advice = "delete it and let it be downloaded again"
    is_packed = path.suffix == ".gz"
    try:
        with gzip.open(path) if is_packed else path.open("rb") as file:
            kind, dimensions = struct.unpack(">HBB", file.read(4))[1:]
            shape = struct.unpack(f">{dimensions}I", file.read(4 * dimensions))
            size = math.prod(shape)
            possible = path.stat().st_size * (MAX_DEFLATE_RATIO if is_packed else 1)
            if size > possible:  # no room is made for what cannot be there
                raise EOFError(f"it says that it holds {size:,} bytes")
            content = bytearray(file.read(size + 1))
    except (OSError, EOFError, MemoryError, zlib.error, struct.error) as e:
        raise InputError(f"{path} cannot be read as an IDX file ({e}); {advice}") from e
    if kind != UNSIGNED_BYTES or len(content) != size:
        raise InputError(f"{path} is not a whole IDX file of bytes; {advice}")
    return torch.from_numpy(np.frombuffer(content, dtype=np.uint8).reshape(shape))


def belong_together(pixels: Tensor, labels: Tensor, num_classes: int) -> bool:
    """Return whether there is a label in 0..num_classes - 1 for each image (N, H, W)."""
    if pixels.ndim != 3 or not len(pixels) or len(pixels) != len(labels):
        return False
    return 0 <= int(labels.min()) <= int(labels.max()) < num_classes


class MNIST:
    """70000 images (1, 28, 28) of handwritten digits (LeCun et al. 1998), from `root`/MNIST/raw.

    The files may be plain or gzipped.
    """

    folder: ClassVar[str] = "MNIST"
    mirrors: ClassVar[tuple[str, ...]] = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "http://yann.lecun.com/exdb/mnist/",
    )
    files: ClassVar[dict[str, Published]] = {
        "train-images-idx3-ubyte": Published(9_912_422, "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        "train-labels-idx1-ubyte": Published(28_881, "d53e105ee54ea40749a09fcbcd1e9432"),
        "t10k-images-idx3-ubyte": Published(1_648_877, "9fb629c4189551a2d022fa330f9573f3"),
        "t10k-labels-idx1-ubyte": Published(4_542, "ec29112dd5afa0611ce80d1b7f02629c"),
    }
    spec: Spec = Spec(
        input_shape=(1, 28, 28),
        class_names=tuple("0123456789"),
        train_samples=60000,
        test_samples=10000,
        mean=(33.32,),
        std=(78.57,),
    )

    def __init__(self, root: Path) -> None:
        self.raw = Path(root) / self.folder / "raw"

    def read(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return images (N, 1, 28, 28) and class numbers (N,) of train and test."""
        sets = {}
        for split, (images, labels) in FILES.items():
            pixels, targets = self._read(images), self._read(labels)
            if not belong_together(pixels, targets, self.spec.num_classes):
                raise InputError(f"{self.raw}: {images} and {labels} do not belong together")
            sets[split] = (pixels.unsqueeze(1), targets.to(torch.int64))
        return sets

    def _read(self, name: str) -> Tensor:
        """Return the content of a file, after downloading what is absent."""
        for path in (self.raw / name, self.raw / f"{name}.gz"):
            if path.is_file():
                return read_idx(path)
        absent = {
            f"{file}.gz": known
            for file, known in self.files.items()
            if not (self.raw / file).is_file()
        }
        fetch(self.mirrors, absent, self.raw, [OWN_IMAGES])
        return read_idx(self.raw / f"{name}.gz")


class FashionMNIST(MNIST):
    """70000 images (1, 28, 28) of clothing (Xiao et al. 2017), from `root`/FashionMNIST/raw."""

    folder = "FashionMNIST"
    mirrors = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)
    files = {
        "train-images-idx3-ubyte": Published(26_421_880, "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
        "train-labels-idx1-ubyte": Published(29_515, "25c81989df183df01b3e8a0aad5dffbe"),
        "t10k-images-idx3-ubyte": Published(4_422_102, "bef4ecab320f06d8554ea6380940ec79"),
        "t10k-labels-idx1-ubyte": Published(5_148, "bb300cfdad3c16e7a12a480ee83cd310"),
    }
    spec = Spec(
        input_shape=(1, 28, 28),
        class_names=(
            *("t-shirt/top", "trouser", "pullover", "dress", "coat"),
            *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
        ),
        train_samples=60000,
        test_samples=10000,
        mean=(72.94,),
        std=(90.02,),
    )


class KMNIST(MNIST):
    """70000 images (1, 28, 28) of cursive Japanese characters, from `root`/KMNIST/raw.

    Clanuwat et al. 2018, "Deep Learning for Classical Japanese Literature".
    """

    folder = "KMNIST"
    mirrors = ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",)
    files = {
        "train-images-idx3-ubyte": Published(18_165_135, "bdb82020997e1d708af4cf47b453dcf7"),
        "train-labels-idx1-ubyte": Published(29_497, "e144d726b3acfaa3e44228e80efcd344"),
        "t10k-images-idx3-ubyte": Published(3_041_136, "5c965bf0a639b31b8f53240b1b52f4d7"),
        "t10k-labels-idx1-ubyte": Published(5_120, "7320c461ea6c1c855c0b718fb2a4b134"),
    }
    spec = Spec(
        input_shape=(1, 28, 28),
        class_names=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        train_samples=60000,
        test_samples=10000,
    )
