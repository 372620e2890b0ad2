"""Ends a stage that no longer improves."""

from __future__ import annotations

import math
from typing import Any

from dltrain.engine import Callback, Engine


class EarlyStopping(Callback):
    """Ends the stage after `patience` evaluations in a row that are not better by `min_delta`."""

    name = "early_stopping"
    draws = False

    def __init__(self, patience: int, min_delta: float) -> None:
        self.patience = patience
        self.min_delta = min_delta
        self.best = -math.inf  # the highest rank of an evaluation
        self.waited = 0

    def evaluation_end(self, engine: Engine) -> None:
        if not engine.stage.watch:
            return
        value = float(engine.scores.get(engine.stage.watch, math.nan))
        rank = engine.stage.rank(value)
        if rank > self.best + self.min_delta:
            self.best = rank
            self.waited = 0
        else:
            self.waited += 1
        if self.waited >= self.patience:
            engine.end_stage()

    def stage_end(self, engine: Engine) -> None:
        self.best = -math.inf
        self.waited = 0

    def extended(self, engine: Engine) -> None:
        """Give the stage `patience` evaluations again."""
        self.waited = 0

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best = state.get("best", -math.inf)
        self.waited = state.get("waited", 0)
