"""The callback that ends a run which compares badly with the other trials of its sweep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dltrain.engine import Callback, Engine
from dltrain.errors import PrunedError


class Pruning(Callback):
    """Reports each evaluation of a metric, and ends the run if the answer is a reason to.

    `decide` is called with the number of the evaluation, from 1, and the metric's value. `metric`
    None is the one that the stage watches; evaluations without the metric are not counted. The
    last evaluation of a stage ends no run, since nothing is left to train.
    """

    name = "pruning"
    draws = False

    def __init__(self, metric: str | None, decide: Callable[[int, float], str]) -> None:
        self.metric = metric
        self.decide = decide
        self.evaluations = 0

    def evaluation_end(self, engine: Engine) -> None:
        """Raise PrunedError if the run is pruned."""
        metric = self.metric or engine.stage.watch
        value = engine.scores.get(metric)
        if value is None:
            return
        self.evaluations += 1
        reason = self.decide(self.evaluations, float(value))
        if reason and not is_last(engine):
            raise PrunedError(reason)

    def state_dict(self) -> dict[str, Any]:
        return {"evaluations": self.evaluations}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.evaluations = state.get("evaluations", 0)


def is_last(engine: Engine) -> bool:
    """Tell if no further step of the stage follows an evaluation."""
    is_trained = engine.exhausted and engine.epoch + 1 >= engine.stage.epochs
    return engine.halted or is_trained
