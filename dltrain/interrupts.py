"""Signals that end a program, raised as exceptions where Ctrl-C would be."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from dltrain.errors import StoppedBySignal, ending_signals


def interrupt(number: int, frame: FrameType | None) -> None:
    """Raise what Ctrl-C raises; but end the process at once while a module is being imported.

    Extensions abort if an exception is raised while they are imported.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            with suppress(OSError):
                os.write(2, b"dltrain: interrupted\n")
            os._exit(128 + number)
        frame = frame.f_back
    raise StoppedBySignal(number)


@contextmanager
def raised_signals() -> Iterator[None]:
    """Raise signals that end a program in the block, if this is the main thread."""
    with handled_signals(interrupt):
        yield


@contextmanager
def handled_signals(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """Pass signals that end a program to a handler in the block, if this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, handler) for number in ending_signals()}
    try:
        yield
    finally:
        for number, earlier in previous.items():
            signal.signal(number, earlier)
