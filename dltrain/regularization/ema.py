"""Exponential moving average of the weights."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from dltrain.regularization.regularizer import Regularizer
from dltrain.types import Fraction


class EMA(Regularizer):
    """Evaluates, tests and predicts with an exponential moving average of the weights.

    See Polyak and Juditsky 1992. The decay increases as (1 + n) / (10 + n) over the updates n up to
    `decay`, so that the first weights are soon forgotten.
    """

    def __init__(self, decay: Fraction = 0.999) -> None:
        self.decay = decay

    def settings(self) -> dict[str, Any]:
        return {"optim.average": self.average}

    def average(self, averages: list[Tensor], values: list[Tensor], count: int, total: int) -> None:
        """Update the moving average in place."""
        decay = min(self.decay, (1 + count) / (10 + count))
        get_ema_multi_avg_fn(decay)(averages, values, count)
