"""Random shifts."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from dltrain.preprocessing.transform import ImageTransform
from dltrain.types import PositiveInt
from dltrain.types.transfers import sent

Padding: TypeAlias = Literal["constant", "reflect", "replicate"]


class RandomCrop(ImageTransform):
    """Shifts each image by up to `padding` pixels each way.

    What was outside is black, with `padding_mode` reflect the reflection of the image at its
    border, with replicate the pixels of the border. He et al. 2016, "Deep Residual Learning for
    Image Recognition", section 4.2: 4 pixels on CIFAR-10's 32x32.
    """

    def __init__(self, padding: PositiveInt = 4, padding_mode: Padding = "constant") -> None:
        self.padding = padding
        self.padding_mode = padding_mode

    def image_shape(self, channels: int, height: int, width: int) -> tuple[int, ...]:
        """Return the same shape; ValueError for images that are too small to be reflected."""
        if self.padding_mode == "reflect" and min(height, width) <= self.padding:
            raise ValueError(
                f"padding={self.padding} by reflection needs images of more than {self.padding} "
                "pixels a side"
            )
        return channels, height, width

    def change(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the images (B, C, H, W), each shifted."""
        count, _, height, width = images.shape
        padded = torch.nn.functional.pad(images, [self.padding] * 4, self.padding_mode)
        # A view of all windows, (B, C, tops, lefts, H, W).
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)
        places = torch.randint(2 * self.padding + 1, (2, count), generator=generator)
        top, left = sent(places, images.device)
        return windows[torch.arange(count, device=images.device), :, top, left]
