"""The callback that measures how long a prediction for one input takes, once a run is trained."""

from __future__ import annotations

from collections.abc import Mapping

from dltrain.engine import Callback, Engine
from dltrain.report.costs import inputs_of, median_latency
from dltrain.runs.folder import LATENCY


class Latency(Callback):
    """Measures the median time of a prediction for one input, in milliseconds.

    It is that of this process on this machine: where other jobs run, it is longer and noisy. It is
    in results.json, never in metrics.jsonl, which is the same for every run of a command.
    """

    name = "latency"

    def __init__(self) -> None:
        self.milliseconds: float | None = None

    def run_end(self, engine: Engine) -> None:
        """Measure predictions for the first input of the held-out batches, or of the others."""
        batches = engine.stage.held_out or engine.stage.batches
        inputs = inputs_of(engine.move(next(batches.epoch(0))))
        self.milliseconds = 1000 * median_latency(engine.task, inputs[:1], engine)

    def results(self) -> Mapping[str, float]:
        """Return the latency, once it is measured."""
        if self.milliseconds is None:
            return {}
        return {LATENCY: round(self.milliseconds, 4)}
