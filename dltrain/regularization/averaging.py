"""The mean of the weights over all updates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_swa_multi_avg_fn

from dltrain.regularization.regularizer import Regularizer


class Averaging(Regularizer):
    """Evaluates, tests and predicts with the mean of the weights over all updates.

    For the perceptron this is the averaged perceptron (Freund and Schapire 1999): its last weights
    change with every sample, their mean is stable.
    """

    def settings(self) -> dict[str, Any]:
        return {"optim.average": self.average}

    def average(self, averages: list[Tensor], values: list[Tensor], count: int, total: int) -> None:
        """Update the running mean in place."""
        get_swa_multi_avg_fn()(averages, values, torch.tensor(count))
