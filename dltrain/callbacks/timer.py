"""Wall-clock time and throughput; they differ from run to run, so they have a file of their own."""

from __future__ import annotations

import time
from typing import Any

from dltrain.engine import Callback, Engine
from dltrain.runs.folder import TIMING, Run

WARM_UP_STEPS = 200


class Timer(Callback):
    """Counts training samples per second: the loop's wall time with logging and saving, without
    evaluation.

    The first 200 steps are left out where a run has more: they load libraries and warm caches. Time
    in which the process was stopped (Ctrl-Z) counts nowhere.
    """

    name = "timer"
    draws = False

    def __init__(self, run: Run) -> None:
        self.run = run
        self.start = time.perf_counter()
        self.steps = 0
        self.finished_samples = 0
        self.mark: tuple[float, int] | None = None
        self.end: tuple[float, int] | None = None
        self.total: float | None = None
        self.earlier_seconds = 0.0
        self.alive = (self.start, time.process_time())  # clocks when something was last done
        self.evaluating = False
        self.stopped_seconds = self.stopped_training_seconds = 0.0

    def trained(self, engine: Engine) -> int:
        """Samples trained on so far."""
        batches = engine.stage.batches
        return self.finished_samples + min(engine.position * batches.batch_size, batches.samples)

    def clock(self, engine: Engine) -> float:
        """Return the seconds of training; a stop within an evaluation is part of the evaluation's
        time.
        """
        return time.perf_counter() - engine.evaluation_seconds - self.stopped_training_seconds

    def continued(self) -> None:
        """Leave out the time in which the process was stopped: wall time since it last did
        something, less CPU time.
        """
        wall, cpu = self.alive
        self.seen(self.evaluating)
        stopped = max(0.0, self.alive[0] - wall - (self.alive[1] - cpu))
        self.stopped_seconds += stopped
        if not self.evaluating:
            self.stopped_training_seconds += stopped

    def seen(self, evaluating: bool) -> None:
        self.alive, self.evaluating = (time.perf_counter(), time.process_time()), evaluating

    def evaluation_step(self, engine: Engine) -> None:
        self.seen(evaluating=True)

    def evaluation_end(self, engine: Engine) -> None:
        self.seen(evaluating=False)

    def step_end(self, engine: Engine) -> None:
        self.seen(evaluating=False)
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
        """The loop is over: what is drawn and tested after it does not count."""
        self.end, self.total = (self.clock(engine), self.trained(engine)), self.seconds()

    def seconds(self) -> float:
        """Of training and validation so far, of the run's earlier parts too."""
        if self.total is not None:
            return self.total
        return self.earlier_seconds + time.perf_counter() - self.start - self.stopped_seconds

    def rate(self, engine: Engine) -> float:
        """Training samples per second since the warm-up; 0 while nothing can be said."""
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
