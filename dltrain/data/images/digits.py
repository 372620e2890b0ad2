"""Handwritten digits that ship with the package: real images without a download."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dltrain.data.io.bundled_files import read_bundled_file
from dltrain.rng import keyed
from dltrain.types import Spec

TEST_FRACTION = 0.2
MAX_GRAY = 16  # the brightest of the 17 stored gray levels


class Digits:
    """1797 images (1, 8, 8) of ten digits (Alpaydin and Kaynak 1998, UCI).

    A fixed fifth of each class is for testing. The 17 gray levels are spread over 0..255.
    """

    spec = Spec(
        input_shape=(1, 8, 8),
        class_names=tuple("0123456789"),
        train_samples=1438,
        test_samples=359,
        mean=(77.7,),
        std=(95.8,),
    )

    def read(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return images (N, 1, 8, 8) uint8 and class numbers (N,) of the training and test set."""
        _, rows = read_bundled_file("digits")
        table = torch.from_numpy(np.array(rows, dtype=np.float64))  # (N, 64 pixels + 1 class)
        images = table[:, :-1].mul(255 / MAX_GRAY).round().to(torch.uint8).view(-1, 1, 8, 8)
        targets = table[:, -1].to(torch.int64)
        test = torch.zeros(len(targets), dtype=torch.bool)
        for label in range(10):
            members = (targets == label).nonzero().squeeze(1)
            order = torch.randperm(len(members), generator=keyed(0, label))
            test[members[order[: round(TEST_FRACTION * len(members))]]] = True
        return {"train": (images[~test], targets[~test]), "test": (images[test], targets[test])}
