"""Elastic net: L1 and L2 on the weights."""

from __future__ import annotations

from typing import Any

from dltrain.regularization.l1 import L1
from dltrain.regularization.l2 import L2
from dltrain.regularization.regularizer import Regularizer
from dltrain.types import PositiveFloat


class ElasticNet(Regularizer):
    """Adds l1 * sum |w| + l2 / 2 * sum w^2 to the loss (Zou and Hastie 2005, equation 3).

    Weights become exactly zero, as with the lasso, while the weights of correlated inputs stay
    similar. The L2 part is added to the gradient; the L1 part is a proximal step after the update.
    """

    def __init__(self, l1: PositiveFloat = 1e-4, l2: PositiveFloat = 1e-4) -> None:
        self.l1 = l1
        self.l2 = l2

    def settings(self) -> dict[str, Any]:
        return {"optim.penalties": [L2(self.l2), L1(self.l1)]}
