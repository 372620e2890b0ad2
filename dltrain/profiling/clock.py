"""A clock that divides time among the phases of training."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch

DATA = "data"
FORWARD = "forward"
BACKWARD = "backward"
OPTIMIZER = "optimizer"
LOGGING = "logging"
EVALUATION = "evaluation"
CHECKPOINT = "checkpoint"
REST = "rest"
CALLBACK = "callback "  # before the name of a callback
BETWEEN = ", epochs"  # after a phase: between steps, at the end of evaluations, epochs and stages


@dataclass
class Ledger:
    """Seconds of each phase in one part of a run; `total` is measured independently of them."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    total: float = 0.0
    steps: int = 0
    evaluations: int = 0

    def of_steps(self) -> float:
        """Return the seconds of everything except evaluations, checkpoints and ends of epochs."""
        return sum(seconds for phase, seconds in self.seconds.items() if is_of_steps(phase))


def is_of_steps(phase: str) -> bool:
    """Return whether a phase is a part of every step."""
    return phase not in (EVALUATION, CHECKPOINT) and not phase.endswith(BETWEEN)


class Clock:
    """Charges time to the innermost phase that has begun, in the current ledger.

    Phases within an evaluation belong to the evaluation. `wait` waits for the device where a phase
    begins and ends, while `waits` is True.
    """

    def __init__(self, wait: Callable[[], None] = lambda: None) -> None:
        self.wait = wait
        self.waits = False
        self.is_traced = False  # torch's profiler is on
        self.ledger = Ledger()
        self.phases = [REST]
        self.mark = perf_counter()
        self.opened = self.mark

    def switch(self, ledger: Ledger, waits: bool = False) -> None:
        """Charge the time from now on to `ledger`."""
        self._charge()
        self.ledger.total += self.mark - self.opened
        self.opened = self.mark
        self.ledger = ledger
        self.waits = waits

    def _charge(self) -> None:
        if self.waits:
            self.wait()
        now = perf_counter()
        self.ledger.seconds[self.phases[-1]] += now - self.mark
        self.mark = now

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Charge the time within the block to a phase."""
        self._charge()
        is_evaluation = self.phases[-1] == EVALUATION
        self.phases.append(EVALUATION if is_evaluation else name)
        try:
            yield
        finally:
            self._charge()
            self.phases.pop()

    def timed(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        """Return a function that calls `call` within a phase."""

        @functools.wraps(call)
        def timed_call(*args: Any, **kwargs: Any) -> Any:
            with self.phase(name):
                return call(*args, **kwargs)

        return timed_call


def waiting_for(device: torch.device) -> Callable[[], None]:
    """Return a function that waits until the device has done all its work."""
    if device.type == "cuda":
        return wait_for_cuda
    if device.type == "mps":
        return torch.mps.synchronize
    return lambda: None


def wait_for_cuda() -> None:
    """Wait for the GPU, except while a CUDA graph is recorded, which does not allow it."""
    if not torch.cuda.is_current_stream_capturing():
        torch.cuda.synchronize()
