"""AdamW: Adam with decoupled weight decay."""

from __future__ import annotations

import torch
from torch import Tensor

from dltrain.optimizers.direct import DirectAdamW
from dltrain.optimizers.fused import fused_if_available
from dltrain.types import Fraction, NonNegative, PositiveFloat


def adamw(
    params: list[Tensor],
    lr: PositiveFloat = 1e-3,
    beta1: Fraction = 0.9,
    beta2: Fraction = 0.999,
    eps: PositiveFloat = 1e-8,
    weight_decay: NonNegative = 0.01,
) -> torch.optim.Optimizer:
    """Return AdamW (Loshchilov and Hutter 2019, algorithm 2).

    Weight decay reduces the weights by lr * weight_decay per step, apart from the gradient.
    """
    return DirectAdamW(
        params,
        lr=lr,
        betas=(beta1, beta2),
        eps=eps,
        weight_decay=weight_decay,
        fused=fused_if_available(params),
    )
