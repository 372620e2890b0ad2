"""Images as grids of patches."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from dltrain.preprocessing.transform import ImageTransform
from dltrain.types import PositiveInt


class Patches(ImageTransform):
    """Makes every patch of `size` x `size` pixels one pixel whose channels are the patch: (C p p, H / p, W / p).

    A 1x1 convolution then sees whole patches, as in Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", equation 1.
    The order of the channels is that of `torch.nn.PixelUnshuffle`.
    """

    training_only: ClassVar[bool] = False
    normalized: ClassVar[bool] = True

    def __init__(self, size: PositiveInt = 4) -> None:
        self.size = size

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Of the grid; ValueError where patches do not tile the image."""
        channels, height, width = super().shape(shape)
        if height % self.size or width % self.size:
            raise ValueError(
                f"patches of {self.size}x{self.size} do not tile images of {height}x{width}: resize first"
            )
        return (channels * self.size**2, height // self.size, width // self.size)

    def change(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return torch.nn.functional.pixel_unshuffle(images, self.size)
