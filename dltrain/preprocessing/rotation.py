"""Random rotation."""

from __future__ import annotations

import torch
from torch import Tensor

from dltrain.preprocessing.affine import RADIANS, rotation_maps, warp
from dltrain.preprocessing.transform import ImageTransform, uniform
from dltrain.types import NonNegative


class Rotation(ImageTransform):
    """Rotates each image around its center by -`degrees`..`degrees`; what was outside is black."""

    def __init__(self, degrees: NonNegative = 15.0) -> None:
        self.degrees = degrees

    def change(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the images (B, C, H, W), each rotated by its own angle."""
        count = len(images)
        angle = uniform(generator, count, -self.degrees, self.degrees, images) * RADIANS
        maps = rotation_maps(angle, torch.zeros_like(angle))
        return warp(images, maps, angle.new_zeros(count, 2))
