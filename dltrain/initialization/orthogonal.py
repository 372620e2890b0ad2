"""Orthogonal initialization."""

from __future__ import annotations

from torch import Tensor, nn

from dltrain.initialization.initializer import Initializer
from dltrain.types import PositiveFloat


class Orthogonal(Initializer):
    """Draws matrices whose singular values all equal `gain` (Saxe et al. 2014, section 3).

    With a gain of 1, signals keep their norm through any number of linear layers. Kernels are
    matrices (out, everything else).
    """

    def __init__(self, gain: PositiveFloat = 1.0, bias: float = 0.0) -> None:
        self.gain = gain
        self.bias = bias

    def fill(self, weight: Tensor) -> None:
        nn.init.orthogonal_(weight, self.gain)
