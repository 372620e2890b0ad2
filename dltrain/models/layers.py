"""Layers that several models share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from dltrain.types import Activation, Norm, Pooling

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softmax": partial(
        nn.Softmax, dim=1
    ),  # over the features of a row, or the channels of each pixel
}


def activation(name: Activation) -> nn.Module:
    """The activation layer that a configuration calls `name`."""
    return ACTIVATIONS[name]()


def words(shape: torch.Size) -> Tensor:
    """Random whole numbers of 16 bits on the CPU, from -2^15 on: four of them come from each number that is drawn."""
    count = shape.numel()
    drawn = torch.randint(-(2**63), 2**63 - 1, ((count + 3) // 4,))
    return drawn.view(torch.int16)[:count].view(shape)


class Dropout(nn.Dropout):
    """torch's dropout (Srivastava et al. 2014), but on a CPU several times as fast: four elements share a random number of
    64 bits, so that p is rounded to a multiple of 2^-16."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or x.device.type != "cpu" or not self.p:
            return super().forward(x)
        kept = (words(x.shape) >= round(self.p * 2**16) - 2**15).to(x.dtype)
        return x * kept.mul_(1 / (1 - self.p))


def dropout(p: float) -> list[nn.Module]:
    """A dropout layer, or nothing at all for p = 0: a layer that does nothing still costs its call."""
    return [Dropout(p)] if p else []


def feature_norm(name: Norm, features: int) -> list[nn.Module]:
    """Normalizes rows (B, F): each feature over the batch, or each row over its features; or nothing at all.

    Ioffe and Szegedy 2015, "Batch Normalization", algorithm 1; Ba et al. 2016, "Layer Normalization", equation 3.
    """
    norms: dict[str, list[nn.Module]] = {
        "none": [],
        "batch": [nn.BatchNorm1d(features)],
        "layer": [nn.LayerNorm(features)],
    }
    return norms[name]


def channel_norm(name: Norm, channels: int) -> list[nn.Module]:
    """Normalizes images (B, C, H, W): each channel over the batch, or each image over its channels and pixels; or
    nothing at all. Both have a scale and a shift for each channel, so that a convolution before them needs no bias.
    """
    norms: dict[str, list[nn.Module]] = {
        "none": [],
        "batch": [nn.BatchNorm2d(channels)],
        "layer": [nn.GroupNorm(1, channels)],
    }
    return norms[name]


class VariancePool2d(nn.Module):
    """The variance of every `size` x `size` window of images (B, C, H, W): what changes within it, not how bright it is.

    Windows do not overlap, and what is left over at the right and the bottom is left out, as in torch's pooling. It is
    the mean squared deviation from the window's own mean: never negative, and no difference of large squares.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        windows = x.unfold(2, self.size, self.size).unfold(
            3, self.size, self.size
        )  # (B, C, H', W', size, size)
        return windows.var(dim=(4, 5), correction=0)


POOLINGS: dict[str, Callable[[int], nn.Module]] = {
    "max": nn.MaxPool2d,
    "average": nn.AvgPool2d,
    "variance": VariancePool2d,
}


def pool(name: Pooling) -> nn.Module:
    """The layer that halves images (B, C, H, W) by what a configuration calls `name`, over windows of 2 x 2."""
    return POOLINGS[name](2)


class Pad(nn.Module):
    """Zero-pads images (B, C, H, W) on all sides up to at least `size` pixels a side."""

    def __init__(self, image_size: tuple[int, int], size: int) -> None:
        super().__init__()
        height, width = (max(0, size - side) for side in image_size)
        self.padding = (width // 2, width - width // 2, height // 2, height - height // 2)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x, self.padding)


def halved(image_size: tuple[int, int], times: int, key: str) -> tuple[int, int]:
    """The image's sides, halved so often without a remainder; ValueError, naming the `key` that says how often, if not."""
    height, width = image_size
    if height % 2**times or width % 2**times:
        raise ValueError(
            f"an image of {height}x{width} pixels cannot be halved {times} times; give {key} fewer entries, "
            f"or choose preprocessing=[resize]"
        )
    return height // 2**times, width // 2**times
