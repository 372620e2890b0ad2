"""L1 (lasso) on the weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dltrain.regularization.regularizer import Regularizer
from dltrain.types import PositiveFloat


class L1(Regularizer):
    """Adds weight * sum |w| to the loss, as a proximal step (Parikh and Boyd 2014, section 6.5.2).

    After each update, every weight moves by lr * weight towards zero and stops there, so weights
    become exactly zero. Biases and the vectors of norms do not change.
    """

    def __init__(self, weight: PositiveFloat = 1e-4) -> None:
        self.weight = weight

    def settings(self) -> dict[str, Any]:
        return {"optim.penalties": [self]}

    def before_step(self, params: list[Tensor]) -> None:
        """Do nothing: the penalty acts after the step."""

    @torch.no_grad()
    def after_step(self, params: list[Tensor], lr: float) -> None:
        for w in params:
            if w.ndim > 1:
                w.copy_(torch.nn.functional.softshrink(w, lr * self.weight))
