"""L2 (ridge) on the weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dltrain.regularization.regularizer import Regularizer
from dltrain.types import PositiveFloat


class L2(Regularizer):
    """Adds weight / 2 * sum w^2 to the loss: weight * w is added to each gradient before the step.

    Biases and the vectors of norms do not change. Adam scales the penalty like the gradient;
    `optimizer=adamw` has decoupled weight decay.
    """

    def __init__(self, weight: PositiveFloat = 1e-4) -> None:
        self.weight = weight

    def settings(self) -> dict[str, Any]:
        return {"optim.penalties": [self]}

    @torch.no_grad()
    def before_step(self, params: list[Tensor]) -> None:
        for w in params:
            if w.ndim > 1 and w.grad is not None:
                w.grad.add_(w, alpha=self.weight)

    def after_step(self, params: list[Tensor], lr: float) -> None:
        """Do nothing: the penalty acts on the gradient."""
