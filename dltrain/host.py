"""The program that dltrain runs in: its own command line, or a Python program that imports it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Host:
    """A program, by what a run may do to its process.

    With `ends_at_second_signal` a second Ctrl-C ends the process at once; otherwise it raises
    KeyboardInterrupt. With `ignores_second_signal` it changes nothing: a cluster sends several
    signals when it asks a job to save, and kills it if that takes too long. With `shows_progress` a
    live progress bar may be drawn. With `keeps_memory` malloc may be told to keep freed memory,
    which stays so until the process ends.
    """

    ends_at_second_signal: bool = True
    shows_progress: bool = True
    keeps_memory: bool = True
    ignores_second_signal: bool = False


COMMAND_LINE = Host()
_current: ContextVar[Host] = ContextVar("host", default=COMMAND_LINE)


def current_host() -> Host:
    """Return the program that runs now."""
    return _current.get()


@contextmanager
def hosted_by(host: Host) -> Iterator[None]:
    """Run the block in `host`."""
    token = _current.set(host)
    try:
        yield
    finally:
        _current.reset(token)
