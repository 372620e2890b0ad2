"""The signals that end a sweep: the first asks the jobs to save and end, the second kills them."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from dltrain.errors import ending_signals


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
        self.previous_handlers: dict[int, Any] = {}

    def __enter__(self) -> Stopping:
        if threading.current_thread() is threading.main_thread():
            for number in ending_signals():
                self.previous_handlers[number] = signal.signal(number, self.handle)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self.previous_handlers.items():
            signal.signal(number, handler)
        self.previous_handlers = {}

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Count a signal."""
        hangup = signal.Signals.__members__.get("SIGHUP")  # not on Windows
        if self.count and number == hangup:
            return
        self.count += 1
        self.number = self.number or number
