"""The parts that `debug=profile` adds to a session; nothing is timed without it."""

from __future__ import annotations

from typing import Any, Protocol

from dltrain.device import Device
from dltrain.engine import Callback, Engine, Feed, StepRunner
from dltrain.profiling.clock import Clock, waiting_for
from dltrain.profiling.profile import Profile
from dltrain.profiling.timed import TimedFeed, TimedStepRunner, time_engine
from dltrain.runs.folder import RunFolder


class Profiling(Protocol):
    """The parts that profiling adds to a session."""

    def feed(self, feed: Feed) -> Feed:
        """Return what brings batches to the device."""

    def step_runner(self, runner: StepRunner) -> StepRunner:
        """Return what runs the steps."""

    def callbacks(self) -> list[Callback]:
        """Return the callbacks that come last of all, once `step_runner` was called."""

    def time(self, engine: Engine) -> None:
        """Time the evaluations and callbacks of an engine."""

    def results(self) -> dict[str, Any]:
        """Return what to add to the results of the run."""


class NoProfiling:
    """Adds nothing to a session."""

    def feed(self, feed: Feed) -> Feed:
        """Return `feed` itself."""
        return feed

    def step_runner(self, runner: StepRunner) -> StepRunner:
        """Return `runner` itself."""
        return runner

    def callbacks(self) -> list[Callback]:
        """Return no callback."""
        return []

    def time(self, engine: Engine) -> None:
        """Time nothing."""

    def results(self) -> dict[str, Any]:
        """Return no results."""
        return {}


class PhaseProfiling:
    """Times the phases of a session."""

    def __init__(self, run: RunFolder, config: dict[str, Any], device: Device) -> None:
        self.clock = Clock(waiting_for(device.torch_device()))
        self.profile = Profile(run, self.clock, config, device)

    def feed(self, feed: Feed) -> Feed:
        """Return a feed that times the wait for each batch."""
        return TimedFeed(feed, self.clock)

    def step_runner(self, runner: StepRunner) -> StepRunner:
        """Return a step runner that times steps."""
        return TimedStepRunner(runner, self.clock)

    def callbacks(self) -> list[Callback]:
        """Return the callback that writes the table."""
        return [self.profile]

    def time(self, engine: Engine) -> None:
        """Time the evaluations and callbacks of an engine."""
        time_engine(engine, self.profile, self.clock)

    def results(self) -> dict[str, Any]:
        """Return the table, if training came to its end."""
        if not self.profile.content:
            return {}
        return {"profile": self.profile.content}


def profiling_of(run: RunFolder, config: dict[str, Any], device: Device) -> Profiling:
    """Return the profiling that the configuration asks for."""
    if config["debug"] == "profile":
        return PhaseProfiling(run, config, device)
    return NoProfiling()
