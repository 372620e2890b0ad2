"""A triangle: linear up to the full learning rate, then linear down."""

from __future__ import annotations

from dltrain.schedules.schedule import Schedule
from dltrain.types import Fraction, NonNegative


class Triangular(Schedule):
    """Increases linearly from `begin` over the fraction `rise`, then decreases linearly to `floor`.

    Howard and Ruder 2018, "Universal Language Model Fine-tuning", equation 3: slanted triangular
    learning rates. `begin` and `floor` are fractions of the full learning rate; `floor` is reached
    after the last update.
    """

    def __init__(
        self,
        total_updates: int,
        warmup: NonNegative = 0.0,
        rise: Fraction = 0.2,
        begin: Fraction = 0.2,
        floor: Fraction = 0.0,
    ) -> None:
        super().__init__(total_updates, warmup)
        self.rise = rise
        self.begin = begin
        self.floor = floor

    def curve(self, progress: float) -> float:
        if progress < self.rise:
            return self.begin + (1 - self.begin) * progress / self.rise
        return 1 - (1 - self.floor) * (progress - self.rise) / (1 - self.rise)
