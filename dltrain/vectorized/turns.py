"""Runs of one process take turns: each has its own random generators and log, as if it were alone.

A run that is trained together with others has a thread of its own, in which the ordinary engine
trains it. Random generators and log handlers belong to the whole process, so only the run whose
turn it is may run, and it finds those that it left. What runs compute together needs no turn.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

from dltrain import rng

log = logging.getLogger("dltrain")


class RunState:
    """The generators, the log handlers and the hook of threads of a run that waits for its turn."""

    def __init__(self) -> None:
        self.generators = rng.Generators()
        self.keep()

    def keep(self) -> None:
        """Keep what the process has, for the run's next turn."""
        self.generators.keep()
        self.handlers = list(log.handlers)
        self.filters = list(log.filters)
        self.hook: Callable[[threading.ExceptHookArgs], Any] = threading.excepthook

    def for_run(self) -> RunState:
        """Return a copy with generators of its own, for a run that has not begun."""
        state = copy(self)
        state.generators = rng.Generators()
        return state

    def restore(self) -> None:
        """Let the process have it again."""
        self.generators.restore()
        log.handlers[:] = self.handlers
        log.filters[:] = self.filters
        threading.excepthook = self.hook


class Turns:
    """The turns of several runs, which are known by their numbers.

    A run starts with the log handlers that the process has when this object is made.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.beginning = RunState()
        self.states: dict[int, RunState] = {}
        self.latest: int | None = None  # the run whose state the process has

    @contextmanager
    def taken(self, run: int) -> Iterator[None]:
        """Have the turn of a run in the block; wait until no other run has its own."""
        self.take(run)
        try:
            yield
        finally:
            self.lock.release()

    @contextmanager
    def given_up(self, run: int) -> Iterator[None]:
        """Let other runs have their turns in the block."""
        self.lock.release()
        try:
            yield
        finally:
            self.take(run)

    def take(self, run: int) -> None:
        """Take the turn of a run. The state is exchanged only if another run had a turn since."""
        self.lock.acquire()
        if self.latest == run:
            return
        if self.latest is not None:
            self.states[self.latest].keep()
        if run not in self.states:
            self.states[run] = self.beginning.for_run()
        self.states[run].restore()
        self.latest = run

    def close(self) -> None:
        """Bring back the state from before the first turn."""
        self.beginning.restore()
