"""Ends a run after so many steps or seconds."""

from __future__ import annotations

from dltrain.callbacks.timer import Timer
from dltrain.engine import Callback, Engine


class Limits(Callback):
    """Asks to end the run at `steps` steps (batches, over all stages) or after `seconds` of training and validation."""

    name = "limits"
    draws = False

    def __init__(self, timer: Timer, steps: int | None, seconds: float | None) -> None:
        self.timer = timer
        self.steps = float("inf") if steps is None else steps
        self.max_seconds = float("inf") if seconds is None else seconds

    def step_end(self, engine: Engine) -> None:
        if engine.step >= self.steps or self.timer.seconds() >= self.max_seconds:
            engine.end_run()

    resumed = step_end  # a run that was interrupted after its last step makes no other
