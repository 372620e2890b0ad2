"""Stops a run after a step, as an earlier run stopped there."""

from __future__ import annotations

import signal

from dltrain.engine import Callback, Engine
from dltrain.errors import Interrupted


class StopAt(Callback):
    """Ends the run after `step` steps, or interrupts it as a signal would.

    A run that ends is evaluated and tested; an interrupted one is saved and can be resumed.
    """

    name = "stop_at"
    draws = False

    def __init__(self, step: int, interrupts: bool) -> None:
        self.step = step
        self.interrupts = interrupts
        self.has_stopped = False

    def step_end(self, engine: Engine) -> None:
        if engine.step < self.step:
            return
        self.has_stopped = True
        if self.interrupts:
            raise Interrupted(signal.SIGINT)
        engine.end_run()
