"""SVHN: house numbers seen from the street."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from dltrain.data.io.download import OWN_IMAGES, Published, fetch
from dltrain.data.io.mat_file import read_mat_arrays
from dltrain.errors import InputError
from dltrain.types import Spec

FILE_LABELS = set(range(1, 11))


class SVHN:
    """99289 images (3, 32, 32) of digits in photographs, from the .mat files in `root`.

    Netzer et al. 2011, "Reading Digits in Natural Images with Unsupervised Feature Learning". The
    files call the digit 0 class 10; here it is class 0.
    """

    mirrors: ClassVar[tuple[str, ...]] = ("http://ufldl.stanford.edu/housenumbers/",)
    files: ClassVar[dict[str, Published]] = {
        "train_32x32.mat": Published(182_040_794, "e26dedcc434d2e4c54c9b2d4a06d8373"),
        "test_32x32.mat": Published(64_275_384, "eb5a983be6a315427106f1b164d9cef3"),
    }
    spec: Spec = Spec((3, 32, 32), tuple("0123456789"), train_samples=73257, test_samples=26032)

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def read(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return images (N, 3, 32, 32) and class numbers (N,) of train and test."""
        absent = {
            name: known for name, known in self.files.items() if not (self.root / name).is_file()
        }
        fetch(self.mirrors, absent, self.root, [OWN_IMAGES])
        return {split: self._read(self.root / f"{split}_32x32.mat") for split in ("train", "test")}

    def _read(self, path: Path) -> tuple[Tensor, Tensor]:
        """Return the images and class numbers in a file; InputError if it is not whole."""
        try:
            arrays = read_mat_arrays(path, ("X", "y"))
        except (OSError, KeyError, ValueError) as e:
            raise InputError(
                f"{path} cannot be read as a .mat file ({e}); delete it to download it again"
            ) from e
        images, labels = arrays["X"], arrays["y"].reshape(-1)  # images are (H, W, C, N)
        is_whole = images.dtype == np.uint8 and images.shape == (32, 32, 3, len(labels))
        if not is_whole or not len(labels) or not set(labels.tolist()) <= FILE_LABELS:
            raise InputError(f"{path} is not a whole SVHN file; delete it to download it again")
        pixels = np.ascontiguousarray(images.transpose(3, 2, 0, 1))
        return torch.from_numpy(pixels), torch.from_numpy(labels.astype(np.int64) % 10)
