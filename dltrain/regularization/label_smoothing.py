"""Label smoothing in the loss."""

from __future__ import annotations

from typing import Any

from dltrain.regularization.regularizer import Regularizer
from dltrain.types import Fraction


class LabelSmoothing(Regularizer):
    """Trains towards 1 - `amount` for the right class (Szegedy et al. 2016, section 7), where the loss has targets."""

    def __init__(self, amount: Fraction = 0.1) -> None:
        self.amount = amount

    def settings(self) -> dict[str, Any]:
        return {"loss.label_smoothing": self.amount}
