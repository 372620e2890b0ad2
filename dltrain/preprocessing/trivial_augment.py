"""Augmentation that has no setting."""

from __future__ import annotations

import torch
from torch import Tensor

from dltrain.preprocessing.augmentations import AUGMENTATIONS, Strongest, augment
from dltrain.preprocessing.operations import PhotoTransform
from dltrain.types import PositiveInt


class TrivialAugment(PhotoTransform):
    """Changes each image by one of fourteen augmentations at one of `levels` magnitudes, both drawn uniformly.

    Müller and Hutter 2021, "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation", algorithm 1, with the wide
    ranges of its table 7 as torchvision's TrivialAugmentWide has them: shifts of up to 32 pixels whatever the image's size.
    Turned and moved images are interpolated bilinearly; what comes in from outside is black.
    """

    def __init__(self, levels: PositiveInt = 31) -> None:
        self.levels = levels

    def change(self, images: Tensor, generator: torch.Generator) -> Tensor:
        count = len(images)
        chosen = torch.randint(len(AUGMENTATIONS), (count,), generator=generator)
        magnitudes = torch.randint(self.levels, (count,), generator=generator) / max(
            1, self.levels - 1
        )
        signs = torch.randint(2, (count,), generator=generator) * 2.0 - 1
        return augment(
            images, chosen, magnitudes, signs, Strongest(0.99, (32.0, 32.0), 135.0, 0.99, 6)
        )
