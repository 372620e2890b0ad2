"""Parts of a session that are timed: the feed, the steps, the optimizers and the callbacks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from weakref import WeakSet

from torch.profiler import record_function

from dltrain.engine import Callback, Engine, Feed, Metrics, Stage, StepRunner
from dltrain.optim import Optim
from dltrain.profiling.clock import (
    BACKWARD,
    BETWEEN,
    CALLBACK,
    CHECKPOINT,
    DATA,
    EVALUATION,
    FORWARD,
    LOGGING,
    OPTIMIZER,
    Clock,
)

STEP = "dltrain step"  # the name of a step in the trace
PHASES = {
    "metrics": LOGGING,
    "tensorboard": LOGGING,
    "progress": LOGGING,
    "checkpoint": CHECKPOINT,
}


class TimedFeed(Feed):
    """Brings batches to the device as `feed` does, and times the wait for each of them."""

    def __init__(self, feed: Feed, clock: Clock) -> None:
        self.feed = feed
        self.clock = clock

    def move(self, batch: Any) -> Any:
        """Return one batch on the device."""
        return self.feed.move(batch)

    def batches(self, batches: Iterator[Any], ahead: bool = True) -> Iterator[Any]:
        """Yield the batches of an epoch on the device."""
        end = object()
        with self.clock.phase(DATA):
            iterator = iter(self.feed.batches(batches, ahead))
        while True:
            with self.clock.phase(DATA):
                batch = next(iterator, end)
            if batch is end:
                return
            yield batch


class TimedStepRunner:
    """Runs steps as `runner` does, and times them; backward and optimizer phases on their own."""

    def __init__(self, runner: StepRunner, clock: Clock) -> None:
        self.runner = runner
        self.clock = clock
        self.optims: WeakSet[Optim] = WeakSet()  # those that are timed already

    def run(self, stage: Stage, batch: Any) -> Metrics:
        """Return the metrics of one step of `stage` on `batch`."""
        for optim in stage.optims:
            if optim not in self.optims:
                self.optims.add(optim)
                time_method(optim, "backward", BACKWARD, self.clock)
                time_method(optim, "step", OPTIMIZER, self.clock)
        with self._traced(), self.clock.phase(FORWARD):
            return self.runner.run(stage, batch)

    def _traced(self) -> AbstractContextManager[Any]:
        """Return a range of the trace, while there is one."""
        if self.clock.is_traced:
            return record_function(STEP)
        return nullcontext()

    def release(self) -> None:
        """Free what the timed runner keeps for the steps of a stage."""
        self.runner.release()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the timed runner."""
        return self.runner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the state of the timed runner."""
        self.runner.load_state_dict(state)


def time_method(owner: object, method: str, phase: str, clock: Clock) -> None:
    """Time a method of one object."""
    setattr(owner, method, clock.timed(getattr(owner, method), phase))


def time_engine(engine: Engine, profiler: Callback, clock: Clock) -> None:
    """Time the evaluations and the callbacks of an engine, but for the `profiler` itself."""
    time_method(engine, "score", EVALUATION, clock)
    for event, listeners in engine.listeners.items():
        overriding = [
            callback
            for callback in engine.callbacks
            if getattr(type(callback), event) is not getattr(Callback, event)
        ]
        for place, callback in enumerate(overriding):
            if callback is not profiler:
                phase = phase_of(callback, event)
                listeners[place] = clock.timed(listeners[place], phase)


def phase_of(callback: Callback, event: str) -> str:
    """Return the phase to which the time of a callback's event belongs."""
    phase = PHASES.get(callback.name, CALLBACK + callback.name)
    if event == "step_end" or phase == CHECKPOINT:
        return phase
    return phase + BETWEEN
