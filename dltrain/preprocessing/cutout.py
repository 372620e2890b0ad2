"""Training on images with a square missing."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor

from dltrain.preprocessing.transform import ImageTransform
from dltrain.types import Ge, Le, PositiveInt


class Cutout(ImageTransform):
    """Fills a square of `size` pixels in each image with a grey level, `fill`.

    DeVries and Taylor 2017, "Improved Regularization of Convolutional Neural Networks with Cutout", section 3: the square's
    middle is any pixel, so that it may lie partly outside; 16 pixels for CIFAR-10, 8 for CIFAR-100. There it is the mean
    of the data, which 127.5 is about.
    """

    moves_pixels: ClassVar[bool] = False

    def __init__(
        self, size: PositiveInt = 16, fill: Annotated[float, Ge(0), Le(255)] = 127.5
    ) -> None:
        self.size, self.fill = size, fill

    def change(self, images: Tensor, generator: torch.Generator) -> Tensor:
        inside = []
        for side in images.shape[2:]:
            first = torch.randint(side, (len(images), 1), generator=generator) - self.size // 2
            pixels = torch.arange(side)
            inside.append((pixels >= first) & (pixels < first + self.size))  # (B, side)
        rows, columns = (part.to(images.device) for part in inside)
        return images.masked_fill(
            (rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1), self.fill
        )
