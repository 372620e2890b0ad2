"""Falls when the watched metric no longer improves."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from dltrain.schedules.schedule import Schedule
from dltrain.types import Fraction, Ge, Gt, Lt, NonNegative


class Plateau(Schedule):
    """Multiplies the rate by `factor` after more than `patience` evaluations in a row without an improvement.

    As torch's ReduceLROnPlateau; an improvement is one by more than `min_delta`, the way that `mode` says, and `floor` is
    the lowest rate as a share of the full one. Evaluations during the warm-up count. Without validation data
    (`dataset.val_fraction=0`) nothing is watched and the rate stays.
    """

    needs_end = False

    def __init__(
        self,
        total_updates: int,
        mode: Literal["max", "min"],
        warmup: NonNegative = 0.0,
        factor: Annotated[float, Gt(0), Lt(1)] = 0.1,
        patience: Annotated[int, Ge(0)] = 3,
        min_delta: NonNegative = 0.0,
        floor: Fraction = 0.0,
    ) -> None:
        super().__init__(total_updates, warmup)
        self.sign = 1 if mode == "max" else -1
        self.reduction, self.patience, self.min_delta, self.floor = (
            factor,
            patience,
            min_delta,
            floor,
        )
        self.best, self.waited, self.level = -math.inf, 0, 1.0

    def curve(self, progress: float) -> float:
        return self.level

    def observe(self, metric: float) -> None:
        if self.sign * metric > self.best + self.min_delta:
            self.best, self.waited = self.sign * metric, 0
        else:
            self.waited += 1
        if self.waited > self.patience:
            self.level, self.waited = max(self.floor, self.level * self.reduction), 0

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited, "level": self.level}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`, or begin where the run had another schedule."""
        self.best, self.waited = state.get("best", -math.inf), state.get("waited", 0)
        self.level = state.get("level", 1.0)
