"""The signals that end a sweep: the first asks the jobs to save and end, the second kills them."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from types import FrameType

from dltrain.interrupts import handled_signals


class Stopping:
    """Counts Ctrl-C, SIGTERM and hangups within `with stopping:`.

    Attributes:
        number: The number of the first signal; 0 before it arrives.
        count: How many have arrived; further hangups do not count, since a terminal that closes
            sends several.
    """

    def __init__(self) -> None:
        self.number = 0
        self.count = 0
        self.stack = ExitStack()

    def __enter__(self) -> Stopping:
        self.stack.enter_context(handled_signals(self.handle))
        return self

    def __exit__(self, *exc: object) -> None:
        self.stack.close()

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Count a signal."""
        hangup = signal.Signals.__members__.get("SIGHUP")  # not on Windows
        if self.count and number == hangup:
            return
        self.count += 1
        self.number = self.number or number
