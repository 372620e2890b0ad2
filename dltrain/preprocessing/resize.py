"""Resizing."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from dltrain.preprocessing.transform import ImageTransform
from dltrain.types import PositiveInt


class Resize(ImageTransform):
    """Stretches images to `size` (a number for both sides, or height and width), bilinearly; smoothed where they shrink."""

    training_only: ClassVar[bool] = False

    def __init__(self, size: PositiveInt | tuple[PositiveInt, PositiveInt] = 32) -> None:
        self.size = (size, size) if isinstance(size, int) else size

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (super().shape(shape)[0], *self.size)

    def change(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return torch.nn.functional.interpolate(images, self.size, mode="bilinear", antialias=True)
