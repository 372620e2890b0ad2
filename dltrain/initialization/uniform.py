"""Uniformly distributed weights."""

from __future__ import annotations

from torch import Tensor, nn

from dltrain.initialization.initializer import Initializer


class Uniform(Initializer):
    """Draws weights uniformly between `low` and `high` in every layer, whatever its size.

    Raises:
        ValueError: `low` is above `high`.
    """

    def __init__(self, low: float = -0.05, high: float = 0.05, bias: float = 0.0) -> None:
        if low > high:
            raise ValueError(
                f"initialization.low={low} is above initialization.high={high}: swap them"
            )
        self.low = low
        self.high = high
        self.bias = bias

    def fill(self, weight: Tensor) -> None:
        nn.init.uniform_(weight, self.low, self.high)
