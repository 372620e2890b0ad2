"""Stochastic gradient descent with momentum and Nesterov momentum."""

from __future__ import annotations

import torch
from torch import Tensor

from dltrain.optimizers.direct import DirectSGD
from dltrain.optimizers.fused import fused_if_available
from dltrain.types import Fraction, NonNegative, PositiveFloat


def sgd(
    params: list[Tensor],
    lr: PositiveFloat = 0.1,
    momentum: Fraction = 0.0,
    nesterov: bool = False,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """Return SGD: w <- w - lr * v with v <- momentum * v + gradient.

    This is Sutskever et al. 2013 in torch's form. Full-batch, mini-batch and single-sample gradient
    descent are `dataset.batch_size=all`, `=N` and `=1`.

    Raises:
        ValueError: `nesterov` without momentum.
    """
    if nesterov and not momentum:
        raise ValueError("optimizer.nesterov=true needs optimizer.momentum above 0, such as 0.9")
    return DirectSGD(
        params,
        lr=lr,
        momentum=momentum,
        nesterov=nesterov,
        weight_decay=weight_decay,
        fused=fused_if_available(params, takes_divided=False),
    )
