"""Reduction of the learning rate when the watched metric stops improving."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from dltrain.schedules.schedule import Schedule
from dltrain.types import Fraction, Ge, Gt, Lt, NonNegative


class Plateau(Schedule):
    """Multiplies the learning rate by `factor` after `patience` evaluations without improvement.

    It works like torch's ReduceLROnPlateau. An improvement is larger than `min_delta`, in the
    direction of `mode`; `floor` is the minimum factor. Evaluations during the warm-up count.
    Without validation data (`dataset.val_fraction=0`) the learning rate does not change.
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
        self.reduction = factor
        self.patience = patience
        self.min_delta = min_delta
        self.floor = floor
        self.best = -math.inf
        self.waited = 0
        self.level = 1.0

    def curve(self, progress: float) -> float:
        return self.level

    def observe(self, metric: float) -> None:
        if self.sign * metric > self.best + self.min_delta:
            self.best = self.sign * metric
            self.waited = 0
        else:
            self.waited += 1
        if self.waited > self.patience:
            self.level = max(self.floor, self.level * self.reduction)
            self.waited = 0

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited, "level": self.level}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state`; it is empty if the run had another schedule."""
        self.best = state.get("best", -math.inf)
        self.waited = state.get("waited", 0)
        self.level = state.get("level", 1.0)
