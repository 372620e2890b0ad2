"""Orthogonal initialization."""

from __future__ import annotations

from torch import Tensor, nn

from dltrain.initialization.initializer import Initializer
from dltrain.types import PositiveFloat


class Orthogonal(Initializer):
    """Random matrices whose singular values are all `gain`: at 1 signals keep their length through any number of linear
    layers (Saxe et al. 2014, section 3). Kernels are matrices (out, the rest).
    """

    def __init__(self, gain: PositiveFloat = 1.0, bias: float = 0.0) -> None:
        self.gain, self.bias = gain, bias

    def fill(self, weight: Tensor) -> None:
        nn.init.orthogonal_(weight, self.gain)
