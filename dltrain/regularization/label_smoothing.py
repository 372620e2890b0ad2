"""Label smoothing in the loss."""

from __future__ import annotations

from typing import Any

from dltrain.regularization.regularizer import Regularizer
from dltrain.types import Fraction


class LabelSmoothing(Regularizer):
    """Reduces the target of the true class by `amount` (Szegedy et al. 2016, section 7)."""

    def __init__(self, amount: Fraction = 0.1) -> None:
        self.amount = amount

    def settings(self) -> dict[str, Any]:
        return {"loss.label_smoothing": self.amount}
