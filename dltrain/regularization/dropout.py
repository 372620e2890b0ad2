"""Dropout in the model."""

from __future__ import annotations

from typing import Any

from dltrain.regularization.regularizer import Regularizer
from dltrain.types import Fraction


class Dropout(Regularizer):
    """Sets activations to zero with probability `p` in training (Srivastava et al. 2014).

    The model decides where dropout applies.
    """

    def __init__(self, p: Fraction = 0.5) -> None:
        self.p = p

    def settings(self) -> dict[str, Any]:
        return {"model.dropout": self.p}
