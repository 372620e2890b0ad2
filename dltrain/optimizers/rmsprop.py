"""RMSprop."""

from __future__ import annotations

import torch
from torch import Tensor

from dltrain.types import Fraction, NonNegative, PositiveFloat


def rmsprop(
    params: list[Tensor],
    lr: PositiveFloat = 1e-3,
    rho: Fraction = 0.9,
    momentum: Fraction = 0.0,
    centered: bool = False,
    eps: PositiveFloat = 1e-8,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """Return RMSprop (Hinton 2012, lecture 6e).

    Steps are divided by the root of a running mean of the squared gradient, with decay `rho`. If
    `centered`, they are divided by the standard deviation instead (Graves 2013, equations 38 to
    41). `weight_decay` is added to the gradient.
    """
    return torch.optim.RMSprop(
        params,
        lr=lr,
        alpha=rho,
        momentum=momentum,
        centered=centered,
        eps=eps,
        weight_decay=weight_decay,
    )
