"""The same value everywhere: to see why weights are drawn."""

from __future__ import annotations

from torch import Tensor, nn

from dltrain.initialization.initializer import Initializer


class Constant(Initializer):
    """Every weight is `value`: the units of a layer are alike, get the same gradient, and stay alike.

    A network with hidden layers does not learn so; one linear layer does, as the perceptron from zero.
    """

    def __init__(self, value: float = 0.1, bias: float = 0.0) -> None:
        self.value, self.bias = value, bias

    def fill(self, weight: Tensor) -> None:
        nn.init.constant_(weight, self.value)
