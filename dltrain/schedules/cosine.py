"""Cosine annealing."""

from __future__ import annotations

import math

from dltrain.schedules.schedule import Schedule
from dltrain.types import Fraction, NonNegative


class Cosine(Schedule):
    """Decreases along half a cosine to `floor` times the learning rate at the last update.

    See Loshchilov and Hutter 2017, equation 5; there are no restarts.
    """

    def __init__(
        self, total_updates: int, warmup: NonNegative = 0.0, floor: Fraction = 0.0
    ) -> None:
        super().__init__(total_updates, warmup)
        self.floor = floor

    def curve(self, progress: float) -> float:
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * progress))
