"""Early stopping."""

from __future__ import annotations

from typing import Any

from dltrain.callbacks.early_stopping import EarlyStopping as Stopper
from dltrain.regularization.regularizer import Regularizer
from dltrain.types import NonNegative, PositiveInt


class EarlyStopping(Regularizer):
    """Ends a stage after `patience` evaluations without an improvement of the watched metric.

    An improvement is larger than `min_delta`.
    """

    def __init__(self, patience: PositiveInt = 5, min_delta: NonNegative = 0.0) -> None:
        self.patience = patience
        self.min_delta = min_delta

    def settings(self) -> dict[str, Any]:
        return {"callbacks.early_stopping": Stopper(self.patience, self.min_delta)}
