"""Polynomial decay, of which a line is the simplest."""

from __future__ import annotations

from dltrain.schedules.schedule import Schedule
from dltrain.types import Fraction, NonNegative, PositiveFloat


class Polynomial(Schedule):
    """Falls as (1 - progress) ** `power` to `floor` times the rate.

    A power of 1 is a line, 0.9 the "poly" rule of DeepLab (Chen et al. 2018, section 4.1).
    """

    def __init__(
        self,
        total_updates: int,
        warmup: NonNegative = 0.0,
        power: PositiveFloat = 1.0,
        floor: Fraction = 0.0,
    ) -> None:
        super().__init__(total_updates, warmup)
        self.power, self.floor = power, floor

    def curve(self, progress: float) -> float:
        return self.floor + (1 - self.floor) * (1 - progress) ** self.power
