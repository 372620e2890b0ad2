"""L1 (lasso) on the weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dltrain.regularization.regularizer import Regularizer
from dltrain.types import PositiveFloat


class L1(Regularizer):
    """Adds weight * sum |w| to the loss, by its proximal step: after each update every weight moves lr * weight
    towards 0 and stops there, so that weights become exactly zero (Parikh and Boyd 2014, section 6.5.2).

    Biases and the vectors of normalization layers are left alone.
    """

    def __init__(self, weight: PositiveFloat = 1e-4) -> None:
        self.weight = weight

    def settings(self) -> dict[str, Any]:
        return {"optim.penalties": [self]}

    def before_step(self, params: list[Tensor]) -> None:
        """The penalty acts after the step."""

    @torch.no_grad()
    def after_step(self, params: list[Tensor], lr: float) -> None:
        for w in params:
            if w.ndim > 1:
                w.copy_(torch.nn.functional.softshrink(w, lr * self.weight))
