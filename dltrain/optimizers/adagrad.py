"""Adagrad."""

from __future__ import annotations

import torch
from torch import Tensor

from dltrain.types import NonNegative, PositiveFloat


def adagrad(
    params: list[Tensor],
    lr: PositiveFloat = 0.01,
    eps: PositiveFloat = 1e-10,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """Steps scaled by the root of the sum of all squared gradients so far (Duchi et al. 2011, figure 1, diagonal form).

    A weight that is seldom used keeps a large rate; every rate only falls. `weight_decay` is added to the gradient.
    """
    fused = (
        all(p.is_cpu for p in params) or None
    )  # elsewhere torch chooses: not every device has the fused kernel
    return torch.optim.Adagrad(params, lr=lr, eps=eps, weight_decay=weight_decay, fused=fused)
