"""Lookahead: slow weights that the trained weights return to."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from dltrain.regularization.regularizer import Regularizer
from dltrain.types import Fraction, NonNegative, PositiveInt


class Lookahead(Regularizer):
    """Pulls the trained weights back to their moving average at regular intervals.

    Zhang et al. 2019, "Lookahead Optimizer: k steps forward, 1 step back", algorithm 1. Every
    `every` updates the slow weights s move towards the trained weights w, and w restarts there:
    s <- rho s + (1 - rho) w, then w <- s. The slow weights are evaluated.

    As in Jordan 2024, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", section 3.4, the
    averaging grows over the run: rho = `decay` ** `every` * progress ** `power`, where the progress
    is 0 at the first update and 1 at the last. It begins after the fraction `start` of the updates.
    The statistics of batch norm are averaged like the weights.
    """

    needs_end = True

    def __init__(
        self,
        decay: Fraction = 0.95,
        every: PositiveInt = 5,
        power: NonNegative = 3.0,
        start: Fraction = 0.3,
    ) -> None:
        self.decay = decay
        self.every = every
        self.power = power
        self.start = start

    def settings(self) -> dict[str, Any]:
        return {"optim.average": self.average}

    @torch.no_grad()
    def average(self, averages: list[Tensor], values: list[Tensor], count: int, total: int) -> None:
        """Update the slow weights `averages` and the trained weights `values` in place."""
        update = count + 1
        first = math.ceil(self.start * total)
        if update <= first:
            torch._foreach_copy_(averages, values)
        elif update % self.every == 0:
            rho = self.decay**self.every * (update / total) ** self.power
            torch._foreach_lerp_(averages, values, 1 - rho)
            torch._foreach_copy_(values, averages)
