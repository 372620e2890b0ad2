"""Layers that several models share."""

from __future__ import annotations

from torch import Tensor, nn

from dltrain.types import Activation

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


def activation(name: Activation) -> nn.Module:
    """The activation layer that a configuration calls `name`."""
    return ACTIVATIONS[name]()


def dropout(p: float) -> list[nn.Module]:
    """A dropout layer, or nothing at all for p = 0: a layer that does nothing still costs its call."""
    return [nn.Dropout(p)] if p else []


class Pad(nn.Module):
    """Zero-pads images (B, C, H, W) on all sides up to at least `size` pixels a side."""

    def __init__(self, image_size: tuple[int, int], size: int) -> None:
        super().__init__()
        height, width = (max(0, size - side) for side in image_size)
        self.padding = (width // 2, width - width // 2, height // 2, height - height // 2)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x, self.padding)
