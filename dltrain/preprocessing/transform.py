"""The base class of preprocessing steps, which change whole batches of images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from dltrain.types.transfers import sent_like


class ImageTransform(ABC):
    """One choice of `preprocessing=[...]`: changes images (B, C, H, W) of floats in 0..255.

    Random numbers come from `generator` alone, so that a batch is a function of (seed, epoch,
    batch). Subclasses say in class attributes whether they are `training_only`, or apply to
    validation, test and prediction too; and whether they `moves_pixels`, so that an object is not
    where it was. Those that change the shape of images say how in `image_shape`.
    """

    training_only: ClassVar[bool] = True
    normalized: ClassVar[bool] = False
    mixes_targets: ClassVar[bool] = False
    moves_pixels: ClassVar[bool] = True

    def __call__(
        self, inputs: Tensor, targets: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return the changed images (B, C, H, W) and the targets as they are."""
        return self.change(inputs, generator), targets

    @abstractmethod
    def change(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the changed images (B, C', H', W')."""

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a changed input; ValueError if inputs of `shape` are not images."""
        if len(shape) != 3:
            raise ValueError(
                f"{type(self).__name__} works on images, not on inputs of shape {shape}"
            )
        channels, height, width = shape
        return self.image_shape(channels, height, width)

    def image_shape(self, channels: int, height: int, width: int) -> tuple[int, ...]:
        """Return the shape of a changed image; ValueError for a shape that cannot be changed."""
        return channels, height, width


def uniform(
    generator: torch.Generator, count: int, low: float, high: float, like: Tensor
) -> Tensor:
    """Return `count` uniform random numbers in low..high, with the type and device of `like`."""
    draws = torch.rand(count, generator=generator).mul_(high - low).add_(low)
    return sent_like(draws, like)


def check_order(name: str, low: float, high: float) -> None:
    """Raise ValueError for a range whose first value is larger than the second."""
    if low > high:
        raise ValueError(f"{name}={[low, high]}: from the smallest to the largest")


def both_sides(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return a height and width; a single number is both."""
    return (size, size) if isinstance(size, int) else size
