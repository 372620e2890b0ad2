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

    That mean lies in a wider minimum than any of the weights in it (Izmailov et al. 2018, algorithm 1). Until the share
    `start` of the updates it is the weights themselves. It gains most where the rate stays high, as with
    `schedule=constant`. The paper computes batch norm's statistics anew for the mean; here they are averaged as well.
    """

    needs_end = True

    def __init__(self, start: Fraction = 0.75) -> None:
        self.start = start

    def settings(self) -> dict[str, Any]:
        return {"optim.average": self.average}

    def average(self, averages: list[Tensor], values: list[Tensor], count: int, total: int) -> None:
        """Take `values` into the mean in place, by torch's own arithmetic; a mean of none before is `values`."""
        averaged = max(0, count - math.ceil(self.start * total))
        get_swa_multi_avg_fn()(averages, values, torch.tensor(averaged))
