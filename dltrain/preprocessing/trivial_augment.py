"""TrivialAugment: one random augmentation, without a setting to tune."""

from __future__ import annotations

import torch
from torch import Tensor

from dltrain.preprocessing.augmentations import AUGMENTATIONS, Strongest, augment, random_signs
from dltrain.preprocessing.operations import PhotoTransform
from dltrain.types import PositiveInt

WIDE = Strongest(shear=0.99, translate=(32.0, 32.0), degrees=135.0, factor=0.99, bits=6)


class TrivialAugment(PhotoTransform):
    """Changes each image by one of fourteen augmentations at one of `levels` magnitudes.

    Both are drawn uniformly. Müller and Hutter 2021, "TrivialAugment: Tuning-free Yet
    State-of-the-Art Data Augmentation", algorithm 1, with the wide ranges of its table 7 as
    torchvision's TrivialAugmentWide has them: shifts of up to 32 pixels whatever the image's size.
    Rotated and moved images are interpolated bilinearly; what was outside is black.
    """

    def __init__(self, levels: PositiveInt = 31) -> None:
        self.levels = levels

    def change(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the images (B, C, H, W), each after its own augmentation."""
        count = len(images)
        chosen = torch.randint(len(AUGMENTATIONS), (count,), generator=generator)
        levels = torch.randint(self.levels, (count,), generator=generator)
        magnitudes = levels / max(1, self.levels - 1)
        return augment(images, chosen, magnitudes, random_signs(count, generator), WIDE)
