"""One cycle: up to the full learning rate, then down to almost zero."""

from __future__ import annotations

import math

from dltrain.schedules.schedule import Schedule
from dltrain.types import Fraction, NonNegative, PositiveFloat


class OneCycle(Schedule):
    """Increases along a cosine over the fraction `rise`, then decreases (Smith and Topin 2018).

    It starts at 1/`start_divisor` of the learning rate and ends at 1/`end_divisor` of that start;
    the defaults are torch's. The momentum is not cycled.
    """

    def __init__(
        self,
        total_updates: int,
        warmup: NonNegative = 0.0,
        rise: Fraction = 0.3,
        start_divisor: PositiveFloat = 25.0,
        end_divisor: PositiveFloat = 1e4,
    ) -> None:
        super().__init__(total_updates, warmup)
        self.rise = rise
        self.start = 1 / start_divisor
        self.end = self.start / end_divisor

    def curve(self, progress: float) -> float:
        # Updates are counted as in torch's OneCycleLR.
        update = progress * self.rest
        peak = self.rise * self.rest - 1
        last = self.rest - 1
        if update < peak:
            return self._blend(self.start, 1.0, update / peak)
        return self._blend(1.0, self.end, min(1.0, (update - peak) / (last - peak)))

    @staticmethod
    def _blend(start: float, end: float, progress: float) -> float:
        return end + (start - end) * 0.5 * (1 + math.cos(math.pi * progress))
