"""Early stopping."""

from __future__ import annotations

from typing import Any

from dltrain.callbacks.early_stopping import EarlyStopping as Stopper
from dltrain.regularization.regularizer import Regularizer
from dltrain.types import NonNegative, PositiveInt


class EarlyStopping(Regularizer):
    """Ends a stage once its watched metric has not improved by more than `min_delta` for `patience` evaluations."""

    def __init__(self, patience: PositiveInt = 5, min_delta: NonNegative = 0.0) -> None:
        self.patience, self.min_delta = patience, min_delta

    def settings(self) -> dict[str, Any]:
        return {"callbacks.early_stopping": Stopper(self.patience, self.min_delta)}
