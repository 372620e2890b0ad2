"""He (Kaiming) initialization."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from dltrain.initialization.initializer import Initializer
from dltrain.types import NonNegative


class He(Initializer):
    """Keeps the variance from layer to layer where ReLUs halve it: of activations by fan_in, of gradients by fan_out.

    Standard deviation sqrt(2 / (1 + negative_slope ** 2) / fan) (He et al. 2015, equations 10, 14 and 15).
    """

    def __init__(
        self,
        distribution: Literal["uniform", "normal"] = "normal",
        mode: Literal["fan_in", "fan_out"] = "fan_in",
        negative_slope: NonNegative = 0.0,
        bias: float = 0.0,
    ) -> None:
        self.draw = {"uniform": nn.init.kaiming_uniform_, "normal": nn.init.kaiming_normal_}[
            distribution
        ]
        self.mode, self.negative_slope, self.bias = mode, negative_slope, bias

    def fill(self, weight: Tensor) -> None:
        self.draw(weight, a=self.negative_slope, mode=self.mode, nonlinearity="leaky_relu")
