"""Augmentation that has two settings."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from dltrain.preprocessing.augmentations import AUGMENTATIONS, Strongest, augment
from dltrain.preprocessing.operations import PhotoTransform
from dltrain.types import Ge, Le, PositiveInt

LEVELS = 30


class RandAugment(PhotoTransform):
    """Changes each image by `operations` of fourteen augmentations, one after the other, each at a `magnitude` of 0..30.

    Cubuk et al. 2020, "RandAugment: Practical automated data augmentation with a reduced search space", algorithm 1, with
    the operations and ranges of torchvision's RandAugment: each image draws its own operations, and to which side.
    Turned and moved images are interpolated bilinearly; what comes in from outside is black.
    """

    def __init__(
        self, operations: PositiveInt = 2, magnitude: Annotated[float, Ge(0), Le(LEVELS)] = 9.0
    ) -> None:
        self.operations, self.magnitude = operations, magnitude

    def change(self, images: Tensor, generator: torch.Generator) -> Tensor:
        count, (height, width) = len(images), images.shape[2:]
        strongest = Strongest(0.3, (width * 150 / 331, height * 150 / 331), 30.0, 0.9, 4)
        magnitudes = torch.full((count,), self.magnitude / LEVELS)
        for _ in range(self.operations):
            chosen = torch.randint(len(AUGMENTATIONS), (count,), generator=generator)
            signs = torch.randint(2, (count,), generator=generator) * 2.0 - 1
            images = augment(images, chosen, magnitudes, signs, strongest)
        return images
