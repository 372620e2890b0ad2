"""Resizing of images."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from dltrain.preprocessing.transform import ImageTransform, both_sides
from dltrain.types import PositiveInt


class Resize(ImageTransform):
    """Stretches images to `size`: a number for both sides, or height and width.

    It is bilinear, with antialiasing where images shrink.
    """

    training_only: ClassVar[bool] = False

    def __init__(self, size: PositiveInt | tuple[PositiveInt, PositiveInt] = 32) -> None:
        self.size = both_sides(size)

    def image_shape(self, channels: int, height: int, width: int) -> tuple[int, ...]:
        """Return the shape of the resized image."""
        return channels, *self.size

    def change(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the resized images (B, C, H', W')."""
        return torch.nn.functional.interpolate(images, self.size, mode="bilinear", antialias=True)
