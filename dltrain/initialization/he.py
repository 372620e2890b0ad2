"""He (Kaiming) initialization."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from dltrain.initialization.initializer import Initializer
from dltrain.types import NonNegative


class He(Initializer):
    """Keeps the variance constant from layer to layer with ReLUs.

    The standard deviation is sqrt(2 / (1 + negative_slope ** 2) / fan) (He et al. 2015, equations
    10, 14 and 15). "fan_in" keeps the variance of activations, "fan_out" that of gradients.
    """

    def __init__(
        self,
        distribution: Literal["uniform", "normal"] = "normal",
        mode: Literal["fan_in", "fan_out"] = "fan_in",
        negative_slope: NonNegative = 0.0,
        bias: float = 0.0,
    ) -> None:
        functions = {"uniform": nn.init.kaiming_uniform_, "normal": nn.init.kaiming_normal_}
        self.draw = functions[distribution]
        self.mode = mode
        self.negative_slope = negative_slope
        self.bias = bias

    def fill(self, weight: Tensor) -> None:
        self.draw(weight, a=self.negative_slope, mode=self.mode, nonlinearity="leaky_relu")
