"""The callback that ends a run which compares badly with the other trials of its sweep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dltrain.engine import NEVER, Callback, Engine
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
        self.seen_step = NEVER  # the step of the last evaluation, with the metric or without
        self.reason = ""  # why the run is pruned, once it is

    def evaluation_end(self, engine: Engine) -> None:
        """Learn whether the run is pruned."""
        self.seen_step = engine.step
        metric = self.metric or engine.stage.watch
        value = engine.scores.get(metric)
        if value is None:
            return
        self.evaluations += 1
        reason = self.decide(self.evaluations, float(value))
        if not is_last(engine):
            self.reason = reason

    def step_end(self, engine: Engine) -> None:
        self.end_if_pruned()

    def epoch_end(self, engine: Engine) -> None:
        self.end_if_pruned()

    def end_if_pruned(self) -> None:
        """Raise PrunedError if the run is pruned: now that the evaluated state is saved."""
        if self.reason:
            raise PrunedError(self.reason)

    def resumed(self, engine: Engine) -> None:
        """Count the evaluation of a best state, which is saved before it comes to this callback.

        A run that was killed while it was pruned ends.
        """
        self.end_if_pruned()
        if self.is_judged(engine) and engine.evaluated_step == engine.step != self.seen_step:
            self.evaluations += 1
            self.seen_step = engine.step

    def is_judged(self, engine: Engine) -> bool:
        """Tell if the evaluations of the stage have the metric."""
        is_watched = self.metric in (None, engine.stage.watch)
        return is_watched or engine.stage.watch == engine.task.watch

    def state_dict(self) -> dict[str, Any]:
        return {
            "evaluations": self.evaluations,
            "seen_step": self.seen_step,
            "reason": self.reason,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.evaluations = state.get("evaluations", 0)
        self.seen_step = state.get("seen_step", NEVER)
        self.reason = state.get("reason", "")


def is_last(engine: Engine) -> bool:
    """Tell if no further step of the stage follows an evaluation."""
    is_trained = engine.exhausted and engine.epoch + 1 >= engine.stage.epochs
    return engine.halted or is_trained
