"""One call of an optimizer's fused kernel for the parameters of several runs."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from dltrain.optim import Optim
from dltrain.optimizers.direct import DirectStep, is_bare

Gradients = dict[Tensor, Tensor]


def is_plain(optim: Optim) -> bool:
    """Return whether the next update is nothing but a step of a fused optimizer."""
    is_more = (
        optim.accumulate > 1,
        optim.pending,
        optim.batch_fraction != 1,
        optim.penalties,
        optim.clip_norm,
        optim.clip_value,
        optim.average,
        optim.needs_grad_norm(),
        optim.finishes_later,
    )
    optimizer = optim.optimizer
    is_fused = isinstance(optimizer, DirectStep) and optimizer.is_direct and is_bare(optimizer)
    return is_fused and not any(is_more)


def is_possible(optim: Optim, gradients: Gradients) -> bool:
    """Return whether the next update is that of a fused optimizer for all of its parameters."""
    return is_plain(optim) and all(param in gradients for param in optim.params)


def update_together(optims: Sequence[Optim], gradients: Sequence[Gradients]) -> bool:
    """Make an update of each optimizer with its gradients; return False if that is impossible.

    Optimizers with the same settings share a call of the kernel.
    """
    if not all(map(is_possible, optims, gradients)):
        return False
    shared: dict[Any, list[tuple[Optim, dict[str, Any], Gradients]]] = {}
    for optim, of_run in zip(optims, gradients, strict=True):
        optim.set_learning_rates()
        for group in optim.optimizer.param_groups:
            shared.setdefault(settings_of(optim, group), []).append((optim, group, of_run))
    with torch.no_grad():
        for members in shared.values():
            step_together(members)
    torch.clear_autocast_cache()
    for optim in optims:
        optim.finish_step()
    return True


def settings_of(optim: Optim, group: dict[str, Any]) -> Any:
    """Return the settings of a group of parameters, with the kind of the optimizer."""
    settings = [(key, value) for key, value in group.items() if key != "params"]
    return type(optim.optimizer), str(settings)


def step_together(members: Sequence[tuple[Optim, dict[str, Any], Gradients]]) -> None:
    """Call the kernel once for groups of parameters that have the same settings."""
    first, group, _ = members[0]
    states: dict[Tensor, Any] = {}
    params: list[Tensor] = []
    gradients: list[Tensor] = []
    for optim, own, of_run in members:
        params += own["params"]
        gradients += [of_run[param] for param in own["params"]]
        states.update(optim.optimizer.state)
    joint: Any = SimpleNamespace(state=states)
    kind: Any = type(first.optimizer)
    kind.update(joint, {**group, "params": params}, gradients)
