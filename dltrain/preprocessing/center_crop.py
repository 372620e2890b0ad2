"""The center of images."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from dltrain.preprocessing.transform import ImageTransform, both_sides
from dltrain.types import PositiveInt


class CenterCrop(ImageTransform):
    """Keeps the center of images: `size` is a number for both sides, or height and width."""

    training_only: ClassVar[bool] = False

    def __init__(self, size: PositiveInt | tuple[PositiveInt, PositiveInt] = 24) -> None:
        self.size = both_sides(size)

    def image_shape(self, channels: int, height: int, width: int) -> tuple[int, ...]:
        """Return the shape of the center; ValueError for images that are smaller."""
        kept_height, kept_width = self.size
        if height < kept_height or width < kept_width:
            raise ValueError(
                f"center_crop of {kept_height}x{kept_width} from images of {height}x{width}: "
                "resize first"
            )
        return channels, kept_height, kept_width

    def change(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the center (B, C, H', W') of the images."""
        height, width = self.size
        top = (images.shape[2] - height) // 2
        left = (images.shape[3] - width) // 2
        return images[:, :, top : top + height, left : left + width].contiguous()
