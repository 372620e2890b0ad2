"""Random brightness, contrast, saturation and hue."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor

from dltrain.preprocessing.operations import PhotoTransform, brightness, contrast, hue, saturation
from dltrain.preprocessing.transform import uniform
from dltrain.types import Ge, Le, NonNegative


class ColorJitter(PhotoTransform):
    """Changes brightness, contrast, saturation and hue of each image by random amounts.

    The first three are multiplied by factors in 1 - x..1 + x, and the hue is rotated by up to `hue`
    of the color circle either way. The ranges are those of torchvision's ColorJitter. The order of
    the four, which decides where values are clipped, is drawn once for a batch. Of gray images only
    brightness and contrast change.
    """

    moves_pixels: ClassVar[bool] = False

    def __init__(
        self,
        brightness: NonNegative = 0.4,
        contrast: NonNegative = 0.4,
        saturation: NonNegative = 0.4,
        hue: Annotated[float, Ge(0), Le(0.5)] = 0.1,
    ) -> None:
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.hue = hue

    def change(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the images (B, C, H, W), each with its own colors."""
        operations = (
            (brightness, *factors(self.brightness)),
            (contrast, *factors(self.contrast)),
            (saturation, *factors(self.saturation)),
            (hue, -self.hue, self.hue),
        )
        for i in torch.randperm(len(operations), generator=generator).tolist():
            operation, low, high = operations[i]
            amounts = uniform(generator, len(images), low, high, images)
            if low < high:
                images = operation(images, amounts)
        return images


def factors(amount: float) -> tuple[float, float]:
    """Return the smallest and the largest factor: 1 - amount, at least 0, and 1 + amount."""
    return max(0.0, 1 - amount), 1 + amount
