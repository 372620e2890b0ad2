"""Ends a run after a number of steps or seconds."""

from __future__ import annotations

import math

from dltrain.callbacks.timer import Timer
from dltrain.engine import Callback, Engine


class Limits(Callback):
    """Ends the run at `steps` steps or after `seconds` of training and validation.

    A step is a batch; those of all stages count.
    """

    name = "limits"
    draws = False

    def __init__(self, timer: Timer, steps: int | None, seconds: float | None) -> None:
        self.timer = timer
        self.steps = math.inf if steps is None else steps
        self.max_seconds = math.inf if seconds is None else seconds

    def step_end(self, engine: Engine) -> None:
        if engine.step >= self.steps or self.timer.seconds() >= self.max_seconds:
            engine.end_run()

    def resumed(self, engine: Engine) -> None:
        """End a run that was interrupted after its last step."""
        self.step_end(engine)
