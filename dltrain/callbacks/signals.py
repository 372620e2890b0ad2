"""The callback that ends a run on Ctrl-C, SIGTERM or a hangup, after the current step."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from dltrain.engine import Callback, Engine
from dltrain.errors import Interrupted, StoppedBySignal, ending_signals
from dltrain.host import current_host


class Signals(Callback):
    """Raises `Interrupted` after the step, or at the evaluation batch, in which a signal arrives.

    An evaluation within an epoch is finished first: a resume continues at the next step and would
    not repeat it. A second signal ends the process at once, or in a Python program raises
    KeyboardInterrupt; except a hangup after a hangup, because a terminal that closes sends several,
    and in the job of a cluster, which sends several as well.

    The handlers are set within `with signals:`. This must be the last callback, so that the others
    have observed the last step. `on_continue` is called when the process continues after Ctrl-Z.
    """

    name = "signals"
    draws = False

    def __init__(self, on_continue: Callable[[], None] = lambda: None) -> None:
        self.received = 0  # the number of the signal that ends the run; 0 before it arrives
        self.on_continue = on_continue
        self.host = current_host()
        self.previous_handlers: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in ending_signals():
                self.previous_handlers[number] = signal.signal(number, self.handle)
            sigcont = signal.Signals.__members__.get("SIGCONT")  # not on Windows
            if sigcont is not None:
                self.previous_handlers[sigcont] = signal.signal(sigcont, self.handle_continue)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self.previous_handlers.items():
            signal.signal(number, handler)
        self.previous_handlers = {}

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Remember a signal; at the second one end the process, or what it runs."""
        hangup = signal.Signals.__members__.get("SIGHUP")  # not on Windows
        is_second_hangup = self.received == number == hangup
        is_ignored = is_second_hangup or self.host.ignores_second_signal
        if self.received and not is_ignored:
            if self.host.ends_at_second_signal:
                os._exit(128 + number)
            raise StoppedBySignal(number)
        self.received = number

    def handle_continue(self, number: int, frame: FrameType | None) -> None:
        """Call `on_continue`."""
        self.on_continue()

    def step_end(self, engine: Engine) -> None:
        if self.received:
            raise Interrupted(self.received)

    def evaluation_step(self, engine: Engine) -> None:
        is_within_epoch = engine.position > 0 and not (engine.exhausted or engine.halted)
        if not is_within_epoch:
            self.step_end(engine)
