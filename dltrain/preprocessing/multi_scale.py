"""Training on objects of many sizes."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from dltrain.preprocessing.affine import warp
from dltrain.preprocessing.transform import ImageTransform, draw
from dltrain.types import Ge


class MultiScale(ImageTransform):
    """Enlarges each image by a factor in `scale` and keeps a window of the old size, anywhere within.

    Simonyan and Zisserman 2014, "Very Deep Convolutional Networks", section 3.1, scale jittering: crops of 224 from images
    whose shorter side is drawn from 256..512, which are the factors 1.14 to 2.29.
    """

    def __init__(
        self, scale: tuple[Annotated[float, Ge(1)], Annotated[float, Ge(1)]] = (1.14, 2.29)
    ) -> None:
        if scale[0] > scale[1]:
            raise ValueError(f"scale={list(scale)}: from the smallest to the largest")
        self.scale = scale

    def change(self, images: Tensor, generator: torch.Generator) -> Tensor:
        scale = draw(generator, len(images), *self.scale, images)
        room = (scale - 1) / 2  # that the enlarged image can move either way
        shifts = torch.stack(
            [draw(generator, len(images), -1, 1, images) * room for _ in range(2)], dim=1
        )
        return warp(
            images, torch.eye(2, device=images.device) * scale.view(-1, 1, 1), shifts, "border"
        )
