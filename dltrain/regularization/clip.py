"""Gradient clipping."""

from __future__ import annotations

from typing import Any

from dltrain.regularization.regularizer import Regularizer
from dltrain.types import NonNegative


class Clip(Regularizer):
    """Scales the gradient down to a total norm of `norm`, then clamps each entry to +-`value`.

    See Pascanu et al. 2013, algorithm 1. A value of 0 turns either off.
    """

    def __init__(self, norm: NonNegative = 1.0, value: NonNegative = 0.0) -> None:
        self.norm, self.value = norm, value

    def settings(self) -> dict[str, Any]:
        return {"optim.clip_norm": self.norm, "optim.clip_value": self.value}
