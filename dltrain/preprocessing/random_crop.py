"""Random shifts."""

from __future__ import annotations

import torch
from torch import Tensor

from dltrain.preprocessing.transform import ImageTransform
from dltrain.types import PositiveInt


class RandomCrop(ImageTransform):
    """Shifts each image by up to `padding` pixels each way; what comes in from outside is black.

    He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2: 4 pixels on CIFAR-10's 32x32.
    """

    def __init__(self, padding: PositiveInt = 4) -> None:
        self.padding = padding

    def change(self, images: Tensor, generator: torch.Generator) -> Tensor:
        count, _, height, width = images.shape
        padded = torch.nn.functional.pad(images, [self.padding] * 4)
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (B, C, tops, lefts, H, W), a view
        top, left = torch.randint(2 * self.padding + 1, (2, count), generator=generator).to(images.device)
        return windows[torch.arange(count, device=images.device), :, top, left]
