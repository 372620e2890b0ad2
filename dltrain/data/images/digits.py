"""The handwritten digits that come with scikit-learn: real data without a download."""

from __future__ import annotations

import torch
from torch import Tensor

from dltrain.rng import keyed
from dltrain.types import Spec

TEST_SHARE = 0.2


class Digits:
    """1797 images (1, 8, 8) of ten digits (Alpaydin and Kaynak 1998, UCI), a fixed stratified fifth of them for testing.

    The set's 17 grey levels are spread over 0..255.
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
        from sklearn.datasets import load_digits

        bunch = load_digits()
        images = torch.from_numpy(bunch.images).mul(255 / 16).round().to(torch.uint8).unsqueeze(1)
        targets = torch.from_numpy(bunch.target).to(torch.int64)
        test = torch.zeros(len(targets), dtype=torch.bool)
        for label in range(10):
            members = (targets == label).nonzero().squeeze(1)
            order = torch.randperm(len(members), generator=keyed(0, label))
            test[members[order[: round(TEST_SHARE * len(members))]]] = True
        return {"train": (images[~test], targets[~test]), "test": (images[test], targets[test])}
