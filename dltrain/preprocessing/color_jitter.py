"""Random brightness, contrast, saturation and hue."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor

from dltrain.preprocessing.operations import PhotoTransform, brightness, contrast, hue, saturation
from dltrain.preprocessing.transform import draw
from dltrain.types import Ge, Le, NonNegative


class ColorJitter(PhotoTransform):
    """Changes brightness, contrast and saturation of each image by factors of its own in 1 - x..1 + x, and turns its hue by
    up to `hue` of the colour circle either way.

    The ranges are torchvision's ColorJitter's. The order of the four, which decides where values are cut off, is drawn
    once a batch. Of grey images only brightness and contrast change.
    """

    moves_pixels: ClassVar[bool] = False

    def __init__(
        self,
        brightness: NonNegative = 0.4,
        contrast: NonNegative = 0.4,
        saturation: NonNegative = 0.4,
        hue: Annotated[float, Ge(0), Le(0.5)] = 0.1,
    ) -> None:
        self.brightness, self.contrast, self.saturation, self.hue = (
            brightness,
            contrast,
            saturation,
            hue,
        )

    def change(self, images: Tensor, generator: torch.Generator) -> Tensor:
        kinds = (
            (brightness, max(0.0, 1 - self.brightness), 1 + self.brightness),
            (contrast, max(0.0, 1 - self.contrast), 1 + self.contrast),
            (saturation, max(0.0, 1 - self.saturation), 1 + self.saturation),
            (hue, -self.hue, self.hue),
        )
        for i in torch.randperm(len(kinds), generator=generator).tolist():
            operation, low, high = kinds[i]
            amounts = draw(generator, len(images), low, high, images)
            if low < high:
                images = operation(images, amounts)
        return images
