"""Ends a run after the current step on Ctrl-C, SIGTERM or a hangup; a stopped one can continue."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from dltrain.engine import Callback, Engine
from dltrain.errors import Interrupted, ending_signals


class Signals(Callback):
    """Raises `Interrupted` after the step or at the evaluation batch in which a signal arrives.

    An evaluation within an epoch is finished first: a resume continues at the next step and would
    not repeat it.

    A second signal ends the process at once, except a hangup after a hangup: a terminal that closes
    sends several. `continued` is called when the process continues after it was stopped (Ctrl-Z and
    `fg`). The handlers are set within `with signals:`. It must be the last callback, so that the
    others have observed the last step.
    """

    name = "signals"
    draws = False

    def __init__(self, continued: Callable[[], None] = lambda: None) -> None:
        self.received = 0
        self.continued = continued
        self.previous: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            self.previous = {s: signal.signal(s, self.handle) for s in ending_signals()}
            resumed = signal.Signals.__members__.get("SIGCONT")  # not on Windows
            if resumed is not None:
                self.previous[resumed] = signal.signal(resumed, self.handle_continue)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        self.previous = {}

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Note a signal; end the process at the second one."""
        hangup = signal.Signals.__members__.get("SIGHUP")  # not on Windows
        is_second_hangup = self.received == number == hangup
        if self.received and not is_second_hangup:
            os._exit(128 + number)
        self.received = number

    def handle_continue(self, number: int, frame: FrameType | None) -> None:
        """Report that the process continues."""
        self.continued()

    def step_end(self, engine: Engine) -> None:
        if self.received:
            raise Interrupted(self.received)

    def evaluation_step(self, engine: Engine) -> None:
        if engine.exhausted or engine.halted or engine.position == 0:
            self.step_end(engine)
