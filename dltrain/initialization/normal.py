"""Normally distributed weights."""

from __future__ import annotations

from torch import Tensor, nn

from dltrain.initialization.initializer import Initializer
from dltrain.types import NonNegative


class Normal(Initializer):
    """Draws weights from the same normal distribution in every layer, whatever its size."""

    def __init__(self, std: NonNegative = 0.01, mean: float = 0.0, bias: float = 0.0) -> None:
        self.std = std
        self.mean = mean
        self.bias = bias

    def fill(self, weight: Tensor) -> None:
        nn.init.normal_(weight, self.mean, self.std)
