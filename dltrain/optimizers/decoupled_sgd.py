"""Nesterov's momentum whose step size and weight decay do not depend on each other."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from torch import Tensor

from dltrain.optimizers.direct import DirectSGD
from dltrain.optimizers.fused import fused_if_available
from dltrain.types import Gt, Lt, NonNegative, PositiveFloat


def decoupled_sgd(
    params: list[Any],
    lr: PositiveFloat = 2.0,
    momentum: Annotated[float, Gt(0), Lt(1)] = 0.85,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """Return SGD with Nesterov's momentum m, in settings that are tuned one by one.

    Where all gradients are equal, a step of torch's SGD is about k = 1 + 1 / (1 - m) times its
    learning rate times the gradient. The rate here is `lr` / k, so that the length of a step does
    not change with m. A step removes the fraction `weight_decay` / k of each weight (times the
    factor of the schedule), also in layers with an `lr_factors` entry, and whatever `lr` is. The
    parameters are from Jordan 2024, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", whose
    learning rates are for 1024 samples; the loss here is a mean over the batch.
    """
    scale = 1 + 1 / (1 - momentum)
    groups = [
        {**group, "weight_decay": weight_decay / (lr * group.get("lr_factor", 1))}
        for group in parameter_groups(params)
    ]
    return DirectSGD(
        groups,
        lr=lr / scale,
        momentum=momentum,
        nesterov=True,
        fused=fused_if_available(params),
    )


def parameter_groups(params: list[Any]) -> list[dict[str, Any]]:
    """Return parameters as groups; they may be groups already."""
    if isinstance(params[0], Tensor):
        return [{"params": params}]
    return params
