"""What every schedule shares: a warm-up, then a curve over the rest of the updates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from dltrain.types import NonNegative


class Schedule(ABC):
    """The learning rate's factor at each update.

    During the warm-up it rises in a line to 1; after it, `curve` maps the progress through the rest (0 at the first
    update, 1 after the last) to the factor. `warmup` below 1 is a share of `total_updates`, from 1 on a number of them.
    `needs_end` says that the curve depends on the progress: a run that only time ends cannot have it.
    """

    needs_end: ClassVar[bool] = True

    def __init__(self, total_updates: int, warmup: NonNegative = 0.0) -> None:
        self.warmup = round(warmup if warmup >= 1 else warmup * total_updates)
        self.rest = max(1, total_updates - self.warmup)

    def factor(self, update: int) -> float:
        if update < self.warmup:
            return (update + 1) / self.warmup
        return self.curve(min(1.0, (update - self.warmup) / self.rest))

    @abstractmethod
    def curve(self, progress: float) -> float:
        """The factor at `progress` in 0..1."""

    def observe(self, metric: float) -> None:
        """The watched metric after an evaluation; only schedules that react to it look."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore where the factor is a function of the update's number."""
