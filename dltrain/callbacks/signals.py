"""Ctrl-C and SIGTERM: end at the next step boundary, where the state is whole."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

from dltrain.engine import Callback, Engine
from dltrain.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Signals(Callback):
    """Raises `Interrupted` after the step, or at the evaluation batch, during which a signal came.

    An evaluation within an epoch is finished first: a resume, which goes on at the next step, would not repeat it.

    A second signal ends the process at once. Use it as a context: the handlers are in place inside. It must be the last
    callback, so that the others have seen the step that it ends on.
    """

    name = "signals"

    def __init__(self) -> None:
        self.received = 0
        self.previous: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            self.previous = {s: signal.signal(s, self.handle) for s in SIGNALS}
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        self.previous = {}

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            os._exit(128 + number)
        self.received = number

    def step_end(self, engine: Engine) -> None:
        if self.received:
            raise Interrupted(self.received)

    def evaluation_step(self, engine: Engine) -> None:
        if engine.exhausted or engine.halted or engine.position == 0:
            self.step_end(engine)
