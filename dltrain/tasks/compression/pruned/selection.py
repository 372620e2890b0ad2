"""The rounds of a pruning and what each keeps: the schedule, and the highest scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from dltrain.errors import ConfigError
from dltrain.tasks import outputs

Scope = Literal["global", "layer"]
Schedule = Literal["cubic", "linear", "geometric"]
GONE = -1.0  # the score of what an earlier round has removed; all others are at least 0
ROUNDING = 1e-9  # a fraction of a number of weights may miss a whole number by this much


def fractions(schedule: Schedule, sparsity: float, rounds: int) -> list[float]:
    """Return the fraction that is removed after each of `rounds` rounds; the last is `sparsity`.

    * cubic: s (1 - (1 - r / R)^3), Zhu and Gupta 2017, "To Prune, or Not to Prune", equation 1
    * linear: s r / R
    * geometric: 1 - (1 - s)^(r / R): each round removes the same fraction of what is left, as in
      Han et al. 2015, "Learning both Weights and Connections", and Frankle and Carbin 2019
    """
    progress = [number / rounds for number in range(1, rounds)]
    formulas = {
        "cubic": lambda part: sparsity * (1 - (1 - part) ** 3),
        "linear": lambda part: sparsity * part,
        "geometric": lambda part: 1 - (1 - sparsity) ** part,
    }
    return [*map(formulas[schedule], progress), sparsity]


def kept(scores: Sequence[Tensor], fraction: float, scope: Scope) -> list[Tensor]:
    """Return for each tensor of scores the mask of what is kept: all but the lowest `fraction`.

    With the scope "global" all scores compete, with "layer" those of each tensor. Of equal scores
    the later ones are kept.
    """
    if scope == "layer":
        return [highest(own.flatten(), fraction).view(own.shape) for own in scores]
    together = highest(torch.cat([own.flatten() for own in scores]), fraction)
    parts = together.split([own.numel() for own in scores])
    return [part.view(own.shape) for part, own in zip(parts, scores, strict=True)]


def highest(scores: Tensor, fraction: float) -> Tensor:
    """Return the mask (N,) of the scores (N,) without the lowest `fraction`; one is always kept."""
    count = min(math.ceil(fraction * len(scores) - ROUNDING), len(scores) - 1)
    lowest = scores.argsort(stable=True)[:count]
    mask = torch.ones_like(scores, dtype=torch.bool)
    mask[lowest] = False
    return mask


def require_rest(masks: Sequence[Tensor], names: Sequence[str], what: str) -> None:
    """Raise ConfigError if one of `names`, whose mask is in `masks`, keeps nothing of `what`."""
    is_empty = torch.stack([~mask.any() for mask in masks])
    if outputs.extremes(is_empty.int())[1]:
        empty = [name for name, flag in zip(names, is_empty.tolist(), strict=True) if flag]
        why = (
            f"leaves {empty[0]} without {what}; set a lower task.sparsity, task.scope=layer, or "
            f'"task.skip=[{empty[0]}]"'
        )
        raise ConfigError([("task.sparsity", why)])
