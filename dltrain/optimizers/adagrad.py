"""Adagrad."""

from __future__ import annotations

import torch
from torch import Tensor

from dltrain.optimizers.fused import flat
from dltrain.types import NonNegative, PositiveFloat


def adagrad(
    params: list[Tensor],
    lr: PositiveFloat = 0.01,
    eps: PositiveFloat = 1e-10,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """Return Adagrad (Duchi et al. 2011, figure 1, diagonal form).

    Steps are divided by the root of the sum of all squared gradients so far. A rarely used weight
    keeps a large learning rate; learning rates never rise. `weight_decay` is added to the gradient.
    """
    # torch has this fused kernel for CPUs only; it chooses by itself where `fused` is None.
    fused = all(p.is_cpu for p in flat(params)) or None
    return torch.optim.Adagrad(params, lr=lr, eps=eps, weight_decay=weight_decay, fused=fused)
