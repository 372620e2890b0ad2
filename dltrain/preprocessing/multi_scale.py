"""Random enlargement: training on objects of many sizes."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from dltrain.preprocessing.affine import warp
from dltrain.preprocessing.transform import ImageTransform, check_order, uniform
from dltrain.types import Ge


class MultiScale(ImageTransform):
    """Enlarges each image by a factor in `scale` and keeps a random window of the old size.

    Simonyan and Zisserman 2014, "Very Deep Convolutional Networks", section 3.1, scale jittering:
    crops of 224 from images whose shorter side is drawn from 256..512, which are the factors 1.14
    to 2.29.
    """

    def __init__(
        self, scale: tuple[Annotated[float, Ge(1)], Annotated[float, Ge(1)]] = (1.14, 2.29)
    ) -> None:
        check_order("scale", *scale)
        self.scale = scale

    def change(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the images (B, C, H, W), each enlarged by its own factor."""
        count = len(images)
        scale = uniform(generator, count, *self.scale, images)
        room = (scale - 1) / 2  # by which the enlarged image can move either way
        across = uniform(generator, count, -1, 1, images) * room
        down = uniform(generator, count, -1, 1, images) * room
        maps = torch.eye(2, device=images.device) * scale.view(-1, 1, 1)
        return warp(images, maps, torch.stack([across, down], dim=1), "border")
