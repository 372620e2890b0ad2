"""Cutting out the middle."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from dltrain.preprocessing.transform import ImageTransform
from dltrain.types import PositiveInt


class CenterCrop(ImageTransform):
    """Keeps the middle of images: `size` is a number for both sides, or height and width."""

    training_only: ClassVar[bool] = False

    def __init__(self, size: PositiveInt | tuple[PositiveInt, PositiveInt] = 24) -> None:
        self.size = (size, size) if isinstance(size, int) else size

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """What is left; ValueError where there is less."""
        channels, height, width = super().shape(shape)
        if height < self.size[0] or width < self.size[1]:
            raise ValueError(
                f"center_crop of {self.size[0]}x{self.size[1]} from images of {height}x{width}: resize first"
            )
        return (channels, *self.size)

    def change(self, images: Tensor, generator: torch.Generator) -> Tensor:
        (height, width), (h, w) = images.shape[2:], self.size
        top, left = (height - h) // 2, (width - w) // 2
        return images[:, :, top : top + h, left : left + w].contiguous()
