"""What every preprocessing step is: a change of whole batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor


class ImageTransform(ABC):
    """One choice of `preprocessing=[...]`: changes images (B, C, H, W) of float values in the stored unit, 0..255.

    What it draws comes from `generator` alone, so that a batch is a function of (seed, epoch, batch). Final classes say
    in `training_only` whether validation, test and prediction see it too.
    """

    training_only: ClassVar[bool] = True
    normalized: ClassVar[bool] = False
    mixes_targets: ClassVar[bool] = False
    moves_pixels: ClassVar[bool] = True

    def __call__(
        self, inputs: Tensor, targets: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        return self.change(inputs, generator), targets

    @abstractmethod
    def change(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The batch, changed."""

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """What becomes of (C, H, W); ValueError for inputs that are no images."""
        if len(shape) != 3:
            raise ValueError(
                f"{type(self).__name__} works on images, not on inputs of shape {shape}"
            )
        return shape


def draw(generator: torch.Generator, count: int, low: float, high: float, like: Tensor) -> Tensor:
    """`count` numbers, uniform in low..high, where `like` is."""
    return torch.rand(count, generator=generator).mul_(high - low).add_(low).to(like)
