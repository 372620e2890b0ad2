"""Stochastic weight averaging."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_swa_multi_avg_fn

from dltrain.regularization.regularizer import Regularizer
from dltrain.types import Fraction


class SWA(Regularizer):
    """Evaluates, tests and predicts with the mean of the weights over the last part of the run.

    The mean lies in a wider minimum than each of the weights (Izmailov et al. 2018, algorithm 1).
    Before the fraction `start` of the updates, the weights themselves are used. The gain is largest
    if the learning rate stays high, as with `schedule=constant`. The paper recomputes the
    statistics of batch norm for the mean; here they are averaged too.
    """

    needs_end = True

    def __init__(self, start: Fraction = 0.75) -> None:
        self.start = start

    def settings(self) -> dict[str, Any]:
        return {"optim.average": self.average}

    def average(self, averages: list[Tensor], values: list[Tensor], count: int, total: int) -> None:
        """Update the mean in place; before its start it is `values`."""
        averaged = max(0, count - math.ceil(self.start * total))
        get_swa_multi_avg_fn()(averages, values, torch.tensor(averaged))
