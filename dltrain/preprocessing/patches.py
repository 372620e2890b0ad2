"""Images as grids of patches."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from dltrain.preprocessing.transform import ImageTransform
from dltrain.types import PositiveInt


class Patches(ImageTransform):
    """Makes each patch of p x p pixels (`size`) one pixel: (C p p, H / p, W / p).

    A 1x1 convolution then sees whole patches, as in Dosovitskiy et al. 2021, "An Image is Worth
    16x16 Words", equation 1. The order of the channels is that of `torch.nn.PixelUnshuffle`.
    """

    training_only: ClassVar[bool] = False
    normalized: ClassVar[bool] = True

    def __init__(self, size: PositiveInt = 4) -> None:
        self.size = size

    def image_shape(self, channels: int, height: int, width: int) -> tuple[int, ...]:
        """Return the shape of the grid; ValueError if patches do not tile the image."""
        size = self.size
        if height % size or width % size:
            raise ValueError(
                f"patches of {size}x{size} do not tile images of {height}x{width}: resize first"
            )
        return channels * size**2, height // size, width // size

    def change(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the grid of patches (B, C p p, H / p, W / p)."""
        return torch.nn.functional.pixel_unshuffle(images, self.size)
