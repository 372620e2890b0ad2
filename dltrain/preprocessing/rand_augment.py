"""RandAugment: random augmentations with two settings."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from dltrain.preprocessing.augmentations import AUGMENTATIONS, Strongest, augment, random_signs
from dltrain.preprocessing.operations import PhotoTransform
from dltrain.types import Ge, Le, PositiveInt

MAX_MAGNITUDE = 30
PAPER_SIDE, PAPER_SHIFT = 331, 150  # pixels of an image, and of the strongest shift in it


class RandAugment(PhotoTransform):
    """Changes each image by `operations` of fourteen augmentations at a `magnitude` of 0..30.

    Cubuk et al. 2020, "RandAugment: Practical automated data augmentation with a reduced search
    space", algorithm 1, with the operations and ranges of torchvision's RandAugment: each image
    draws its own operations and their signs. Rotated and moved images are interpolated bilinearly;
    what was outside is black.
    """

    def __init__(
        self,
        operations: PositiveInt = 2,
        magnitude: Annotated[float, Ge(0), Le(MAX_MAGNITUDE)] = 9.0,
    ) -> None:
        self.operations = operations
        self.magnitude = magnitude

    def change(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the images (B, C, H, W), each after its own augmentations."""
        count, _, height, width = images.shape
        strongest = Strongest(
            shear=0.3,
            translate=(width * PAPER_SHIFT / PAPER_SIDE, height * PAPER_SHIFT / PAPER_SIDE),
            degrees=30.0,
            factor=0.9,
            bits=4,
        )
        magnitudes = torch.full((count,), self.magnitude / MAX_MAGNITUDE)
        for _ in range(self.operations):
            chosen = torch.randint(len(AUGMENTATIONS), (count,), generator=generator)
            signs = random_signs(count, generator)
            images = augment(images, chosen, magnitudes, signs, strongest)
        return images
