"""Polynomial decay, by default linear."""

from __future__ import annotations

from dltrain.schedules.schedule import Schedule
from dltrain.types import Fraction, NonNegative, PositiveFloat


class Polynomial(Schedule):
    """Decreases as (1 - progress) ** `power` to `floor` times the learning rate.

    A power of 1 is linear decay, 0.9 the "poly" rule of DeepLab (Chen et al. 2018, section 4.1).
    """

    def __init__(
        self,
        total_updates: int,
        warmup: NonNegative = 0.0,
        power: PositiveFloat = 1.0,
        floor: Fraction = 0.0,
    ) -> None:
        super().__init__(total_updates, warmup)
        self.power = power
        self.floor = floor

    def curve(self, progress: float) -> float:
        return self.floor + (1 - self.floor) * (1 - progress) ** self.power
