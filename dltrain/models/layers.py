"""Layers that several models share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dltrain.types import Activation, Norm, Pooling
from dltrain.types.rows import random_rows_by_default

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softmax": partial(nn.Softmax, dim=1),  # over features (B, F), or channels (B, C, H, W)
}


def activation(name: Activation) -> nn.Module:
    """Return the activation layer with this name in a configuration."""
    return ACTIVATIONS[name]()


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context without autocast; it does nothing where autocast is off, or unknown."""
    kind = device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return nullcontext()


def random_int16(shape: Sequence[int]) -> Tensor:
    """Return uniform random int16 numbers on the CPU; each random int64 gives four of them."""
    count = math.prod(shape)
    numbers = torch.randint(-(2**63), 2**63 - 1, ((count + 3) // 4,))
    return numbers.view(torch.int16)[:count].view(shape)


class Dropout(nn.Dropout):
    """Dropout (Srivastava et al. 2014), several times as fast as torch's on a CPU.

    On a CPU, four elements share a random number of 64 bits, so p is rounded to a multiple of
    2^-16.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Drop elements of x in training, and scale the others by 1 / (1 - p)."""
        if not self.training or x.device.type != "cpu" or not self.p:
            return super().forward(x)
        threshold = round(self.p * 2**16) - 2**15
        numbers = random_rows_by_default(random_int16, x.shape)
        mask = (numbers >= threshold).to(x.dtype)
        return x * mask.mul_(1 / (1 - self.p))


def dropout(p: float) -> list[nn.Module]:
    """Return a dropout layer, or no layer for p = 0, which saves its call."""
    return [Dropout(p)] if p else []


def feature_norm(name: Norm, features: int) -> list[nn.Module]:
    """Return a normalization layer for rows (B, F), or no layer.

    "batch" normalizes each feature over the batch (Ioffe and Szegedy 2015, "Batch Normalization",
    algorithm 1), "layer" each row over its features (Ba et al. 2016, "Layer Normalization",
    equation 3).
    """
    norms: dict[str, list[nn.Module]] = {
        "none": [],
        "batch": [nn.BatchNorm1d(features)],
        "layer": [nn.LayerNorm(features)],
    }
    return norms[name]


def channel_norm(name: Norm, channels: int) -> list[nn.Module]:
    """Return a normalization layer for images (B, C, H, W), or no layer.

    "batch" normalizes each channel over the batch, "layer" each image over its channels and pixels.
    Both have a scale and a shift per channel, so a convolution before them needs no bias.
    """
    norms: dict[str, list[nn.Module]] = {
        "none": [],
        "batch": [nn.BatchNorm2d(channels)],
        "layer": [nn.GroupNorm(1, channels)],
    }
    return norms[name]


class VariancePool2d(nn.Module):
    """Pooling by the variance of every `size` x `size` window of images (B, C, H, W).

    Windows do not overlap. Pixels that do not fill a window at the right and the bottom are
    ignored, as in torch's pooling. The variance is the mean squared deviation from the window's
    mean, which is numerically more stable than a difference of large squares.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """Return the variances (B, C, H', W') of the windows of x (B, C, H, W)."""
        rows = x.unfold(2, self.size, self.size)
        windows = rows.unfold(3, self.size, self.size)  # (B, C, H', W', size, size)
        return windows.var(dim=(4, 5), correction=0)


POOLINGS: dict[str, Callable[[int], nn.Module]] = {
    "max": nn.MaxPool2d,
    "average": nn.AvgPool2d,
    "variance": VariancePool2d,
}


def pool(name: Pooling) -> nn.Module:
    """Return the pooling layer with this name, over windows of 2 x 2 of images (B, C, H, W)."""
    return POOLINGS[name](2)


class Pad(nn.Module):
    """Zero padding of images (B, C, H, W) on all sides to at least `size` pixels per side."""

    def __init__(self, image_size: tuple[int, int], size: int) -> None:
        super().__init__()
        height, width = (max(0, size - side) for side in image_size)
        self.padding = (width // 2, width - width // 2, height // 2, height - height // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return the padded images."""
        return nn.functional.pad(x, self.padding)


def halved(image_size: tuple[int, int], times: int, key: str) -> tuple[int, int]:
    """Return height and width after halving them `times` times.

    Raises:
        ValueError: A side is not a multiple of 2^times; the message names the `key` to change.
    """
    height, width = image_size
    if height % 2**times or width % 2**times:
        raise ValueError(
            f"an image of {height}x{width} pixels cannot be halved {times} times; "
            f'give {key} fewer entries, or choose "preprocessing=[resize]"'
        )
    return height // 2**times, width // 2**times
