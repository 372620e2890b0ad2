"""Measures wall-clock time and throughput, which have a file of their own: runs differ in them."""

from __future__ import annotations

import time
from typing import Any

from dltrain.engine import Callback, Engine
from dltrain.runs.folder import TIMING, RunFolder

WARM_UP_STEPS = 200


class Timer(Callback):
    """Measures training samples per second of wall time.

    Logging and saving count, evaluations do not, nor do the first 200 steps of a longer run: they
    load libraries and warm caches. Time in which the process was stopped (Ctrl-Z) never counts.
    """

    name = "timer"
    draws = False

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.start = time.perf_counter()
        self.steps = 0
        self.finished_samples = 0
        self.mark: tuple[float, int] | None = None  # seconds and samples after the warm-up,
        self.end: tuple[float, int] | None = None  # and at the stage's end
        self.total: float | None = None  # seconds, once the stage has ended
        self.earlier_seconds = 0.0
        self.alive = (self.start, time.process_time())  # both clocks at the last event
        self.evaluating = False
        self.stopped_seconds = 0.0
        self.stopped_training_seconds = 0.0

    def trained(self, engine: Engine) -> int:
        """Return the number of samples trained on so far."""
        batches = engine.stage.batches
        return self.finished_samples + min(engine.position * batches.batch_size, batches.samples)

    def clock(self, engine: Engine) -> float:
        """Return the seconds of training; a stop in an evaluation is part of the evaluation's."""
        return time.perf_counter() - engine.evaluation_seconds - self.stopped_training_seconds

    def subtract_stop(self) -> None:
        """Subtract the time in which the process was stopped.

        It is the wall time since the last event, less the CPU time.
        """
        wall, cpu = self.alive
        self.note(self.evaluating)
        wall_now, cpu_now = self.alive
        stopped = max(0.0, wall_now - wall - (cpu_now - cpu))
        self.stopped_seconds += stopped
        if not self.evaluating:
            self.stopped_training_seconds += stopped

    def note(self, evaluating: bool) -> None:
        """Note the time of an event, which belongs to an evaluation or to training."""
        self.alive = (time.perf_counter(), time.process_time())
        self.evaluating = evaluating

    def evaluation_step(self, engine: Engine) -> None:
        self.note(evaluating=True)

    def evaluation_end(self, engine: Engine) -> None:
        self.note(evaluating=False)

    def step_end(self, engine: Engine) -> None:
        self.note(evaluating=False)
        self.steps += 1
        self.end = self.total = None
        if self.steps == 1 or self.steps == WARM_UP_STEPS:
            self.mark = (self.clock(engine), self.trained(engine))
            if self.steps == 1:
                self.run.append(
                    TIMING, {"step": engine.step, "event": "first step", "time": time.time()}
                )

    def epoch_end(self, engine: Engine) -> None:
        if engine.position == 0:
            self.finished_samples += engine.stage.batches.samples
        record = {"step": engine.step, "event": "epoch end", "seconds": self.seconds()}
        self.run.append(TIMING, {**record, "samples_per_second": self.rate(engine)})

    def stage_end(self, engine: Engine) -> None:
        """Stop the clock: what is drawn and tested after the loop does not count."""
        self.end = (self.clock(engine), self.trained(engine))
        self.total = self.seconds()

    def seconds(self) -> float:
        """Return the seconds of training and validation so far, also before a resume."""
        if self.total is not None:
            return self.total
        return self.earlier_seconds + time.perf_counter() - self.start - self.stopped_seconds

    def rate(self, engine: Engine) -> float:
        """Return the training samples per second since the warm-up; 0 before its end."""
        if self.mark is None:
            return 0.0
        start, before = self.mark
        now, after = self.end or (self.clock(engine), self.trained(engine))
        return (after - before) / max(1e-9, now - start)

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds(), "finished_samples": self.finished_samples}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.earlier_seconds = state.get("seconds", 0.0)
        self.finished_samples = state.get("finished_samples", 0)
