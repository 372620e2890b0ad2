"""Random shifts."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from dltrain.preprocessing.transform import ImageTransform
from dltrain.types import PositiveInt

Padding: TypeAlias = Literal["constant", "reflect", "replicate"]


class RandomCrop(ImageTransform):
    """Shifts each image by up to `padding` pixels each way; what comes in from outside is black, or of `padding_mode` reflect
    what a mirror at the border shows, of replicate the border's own pixels.

    He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2: 4 pixels on CIFAR-10's 32x32.
    """

    def __init__(self, padding: PositiveInt = 4, padding_mode: Padding = "constant") -> None:
        self.padding, self.padding_mode = padding, padding_mode

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The same; ValueError for images that are too small to be mirrored so far."""
        if min(super().shape(shape)[1:]) <= self.padding and self.padding_mode == "reflect":
            raise ValueError(
                f"padding={self.padding} by reflection needs images of more than {self.padding} pixels a side"
            )
        return shape

    def change(self, images: Tensor, generator: torch.Generator) -> Tensor:
        count, _, height, width = images.shape
        padded = torch.nn.functional.pad(images, [self.padding] * 4, self.padding_mode)
        windows = padded.unfold(2, height, 1).unfold(
            3, width, 1
        )  # (B, C, tops, lefts, H, W), a view
        top, left = torch.randint(2 * self.padding + 1, (2, count), generator=generator).to(
            images.device
        )
        return windows[torch.arange(count, device=images.device), :, top, left]
