"""Adadelta."""

from __future__ import annotations

import torch
from torch import Tensor

from dltrain.types import Fraction, NonNegative, PositiveFloat


def adadelta(
    params: list[Tensor],
    lr: PositiveFloat = 1.0,
    rho: Fraction = 0.95,
    eps: PositiveFloat = 1e-6,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """Return Adadelta (Zeiler 2012, algorithm 1).

    Gradients are scaled by the ratio of the running root mean squares of steps and gradients, so a
    step has the unit of the weights. The defaults of `rho` and `eps` are the paper's (section 4.1);
    its rule has no learning rate, which is `lr=1`. `weight_decay` is added to the gradient.
    """
    return torch.optim.Adadelta(params, lr=lr, rho=rho, eps=eps, weight_decay=weight_decay)
