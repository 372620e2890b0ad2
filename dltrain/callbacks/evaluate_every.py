"""Evaluates within epochs."""

from __future__ import annotations

from dltrain.engine import Callback, Engine


class EvaluateEvery(Callback):
    """Evaluates every `steps` steps, in addition to the evaluation at each epoch's end."""

    name = "evaluate_every"
    draws = False

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def step_end(self, engine: Engine) -> None:
        if engine.step % self.steps == 0:
            engine.evaluate()
