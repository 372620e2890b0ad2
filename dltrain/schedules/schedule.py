"""Base class of learning rate schedules: a warm-up, then a curve over the other updates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from dltrain.types import NonNegative


class Schedule(ABC):
    """The factor of the learning rate at each update.

    During the warm-up it increases linearly to 1. Then `curve` maps the progress (0 at the first
    update after the warm-up, 1 after the last update) to the factor. A `warmup` below 1 is a
    fraction of `total_updates`, otherwise a number of updates. `needs_end` declares that the curve
    depends on the progress, so a run needs a known number of updates.
    """

    needs_end: ClassVar[bool] = True

    def __init__(self, total_updates: int, warmup: NonNegative = 0.0) -> None:
        if warmup < 1:
            warmup *= total_updates
        self.warmup = round(warmup)
        self.rest = max(1, total_updates - self.warmup)

    def factor(self, update: int) -> float:
        """Return the factor at an update, counted from 0."""
        if update < self.warmup:
            return (update + 1) / self.warmup
        return self.curve(min(1.0, (update - self.warmup) / self.rest))

    @abstractmethod
    def curve(self, progress: float) -> float:
        """Return the factor at `progress` in 0..1."""

    def observe(self, metric: float) -> None:
        """React to the watched metric after an evaluation; most schedules do not."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resume needs."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict`; most schedules have none."""
