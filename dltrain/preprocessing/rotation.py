"""Random rotation."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dltrain.preprocessing.affine import turned, warp
from dltrain.preprocessing.transform import ImageTransform, draw
from dltrain.types import NonNegative


class Rotation(ImageTransform):
    """Turns each image around its centre by an angle in -`degrees`..`degrees`; what comes in from outside is black."""

    def __init__(self, degrees: NonNegative = 15.0) -> None:
        self.degrees = degrees

    def change(self, images: Tensor, generator: torch.Generator) -> Tensor:
        angle = draw(generator, len(images), -self.degrees, self.degrees, images) * (math.pi / 180)
        return warp(images, turned(angle, torch.zeros_like(angle)), angle.new_zeros(len(images), 2))
