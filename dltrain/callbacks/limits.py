"""Ends a run after a number of steps or seconds, and its stages after a number of steps each."""

from __future__ import annotations

import math
from typing import Any

from dltrain.callbacks.timer import Timer
from dltrain.engine import Callback, Engine


class Limits(Callback):
    """Ends the run at `steps` steps or after `seconds` of training and validation.

    A step is a batch; those of all stages count. Each stage ends at `stage_steps` of its own.
    """

    name = "limits"
    draws = False

    def __init__(
        self,
        timer: Timer,
        steps: int | None,
        seconds: float | None,
        stage_steps: int | None = None,
    ) -> None:
        self.timer = timer
        self.steps = limit(steps)
        self.max_seconds = limit(seconds)
        self.stage_steps = limit(stage_steps)
        self.made = 0  # steps of the stage that is called `stage`
        self.stage = ""
        self.stage_is_full = False  # it has made all its steps

    def step_end(self, engine: Engine) -> None:
        if engine.stage.name != self.stage:
            self._count_for(engine.stage.name)
        self.made += 1
        self._end_what_is_full(engine)

    def _end_what_is_full(self, engine: Engine) -> None:
        if engine.step >= self.steps or self._is_time_up():
            engine.end_run()
        self.stage_is_full = self.made >= self.stage_steps
        if self.stage_is_full:
            engine.end_stage()

    def _is_time_up(self) -> bool:
        return self.max_seconds < math.inf and self.timer.seconds() >= self.max_seconds

    def _count_for(self, stage: str) -> None:
        """Count the steps of a stage that has begun from 0.

        The earlier stage's count stays until then, so it is the same in every checkpoint of that
        stage's last step.
        """
        self.made = 0
        self.stage = stage

    def resumed(self, engine: Engine) -> None:
        """End a run or a stage that was interrupted after its last step."""
        self.stage = engine.stage.name
        self._end_what_is_full(engine)

    def state_dict(self) -> dict[str, Any]:
        return {"stage_steps": self.made}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.made = state.get("stage_steps", 0)


def limit(value: float | None) -> float:
    """Return a limit that may be None, for none."""
    return math.inf if value is None else value
