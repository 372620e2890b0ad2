"""The same value for all weights, which shows why weights are random."""

from __future__ import annotations

from torch import Tensor, nn

from dltrain.initialization.initializer import Initializer


class Constant(Initializer):
    """Sets every weight to `value`.

    The units of a layer are equal, get equal gradients and stay equal. A network with hidden layers
    does not learn then; one linear layer does, such as the perceptron from zero.
    """

    def __init__(self, value: float = 0.1, bias: float = 0.0) -> None:
        self.value = value
        self.bias = bias

    def fill(self, weight: Tensor) -> None:
        nn.init.constant_(weight, self.value)
