"""Adam."""

from __future__ import annotations

import torch
from torch import Tensor

from dltrain.optimizers.direct import DirectAdam
from dltrain.optimizers.fused import fused_if_available
from dltrain.types import Fraction, NonNegative, PositiveFloat


def adam(
    params: list[Tensor],
    lr: PositiveFloat = 1e-3,
    beta1: Fraction = 0.9,
    beta2: Fraction = 0.999,
    eps: PositiveFloat = 1e-8,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """Return Adam (Kingma and Ba 2015, algorithm 1).

    `weight_decay` is added to the gradient, as L2 regularization; `adamw` decouples it.
    """
    return DirectAdam(
        params,
        lr=lr,
        betas=(beta1, beta2),
        eps=eps,
        weight_decay=weight_decay,
        fused=fused_if_available(params),
    )
