"""Training on images in which a square is missing."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor

from dltrain.preprocessing.transform import ImageTransform
from dltrain.types import Ge, Le, PositiveInt
from dltrain.types.transfers import sent


class Cutout(ImageTransform):
    """Fills a square of `size` pixels in each image with a gray level, `fill`.

    DeVries and Taylor 2017, "Improved Regularization of Convolutional Neural Networks with Cutout",
    section 3: the center of the square is any pixel, so that it may lie partly outside; 16 pixels
    for CIFAR-10, 8 for CIFAR-100. They fill it with the mean of the data, which is about 127.5.
    """

    moves_pixels: ClassVar[bool] = False

    def __init__(
        self, size: PositiveInt = 16, fill: Annotated[float, Ge(0), Le(255)] = 127.5
    ) -> None:
        self.size = size
        self.fill = fill

    def change(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the images (B, C, H, W), each with a square filled."""
        _, _, height, width = images.shape
        rows = sent(self.inside(height, len(images), generator), images.device)
        columns = sent(self.inside(width, len(images), generator), images.device)
        square = rows.unsqueeze(2) & columns.unsqueeze(1)  # (B, H, W)
        return images.masked_fill(square.unsqueeze(1), self.fill)

    def inside(self, side: int, count: int, generator: torch.Generator) -> Tensor:
        """Return which pixels of a side (B, side) are inside a square at a random place."""
        first = torch.randint(side, (count, 1), generator=generator) - self.size // 2
        pixels = torch.arange(side)
        return (pixels >= first) & (pixels < first + self.size)
