"""Xavier (Glorot) initialization."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from dltrain.initialization.initializer import Initializer
from dltrain.types import PositiveFloat


class Xavier(Initializer):
    """Keeps the variance of activations and gradients about constant, for tanh and linear layers.

    The standard deviation is `gain` * sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio 2010,
    equation 16).
    """

    def __init__(
        self,
        distribution: Literal["uniform", "normal"] = "uniform",
        gain: PositiveFloat = 1.0,
        bias: float = 0.0,
    ) -> None:
        functions = {"uniform": nn.init.xavier_uniform_, "normal": nn.init.xavier_normal_}
        self.draw = functions[distribution]
        self.gain = gain
        self.bias = bias

    def fill(self, weight: Tensor) -> None:
        self.draw(weight, gain=self.gain)
