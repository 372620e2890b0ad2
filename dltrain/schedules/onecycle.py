"""One cycle: up to the full learning rate, then down to almost nothing."""

from __future__ import annotations

import math

from dltrain.schedules.schedule import Schedule
from dltrain.types import Fraction, NonNegative, PositiveFloat


class OneCycle(Schedule):
    """Rises along a cosine over the share `rise`, then falls along one to the end (Smith and Topin 2018).

    It starts at 1/`start_divisor` of the rate and ends at 1/`end_divisor` of that start, torch's defaults. The momentum
    is not cycled.
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
        self.rise, self.start = rise, 1 / start_divisor
        self.end = self.start / end_divisor

    def curve(self, progress: float) -> float:
        update, peak, last = (
            progress * self.rest,
            self.rise * self.rest - 1,
            self.rest - 1,
        )  # as OneCycleLR counts them
        if update < peak:
            return self._blend(self.start, 1.0, update / peak)
        return self._blend(1.0, self.end, min(1.0, (update - peak) / (last - peak)))

    @staticmethod
    def _blend(start: float, end: float, share: float) -> float:
        return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))
