"""Messages on the screen: log records as text, wrapped between words to a terminal's width."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from dltrain.terminal import screen_width, wrap

log = logging.getLogger("dltrain")


class Screen(logging.StreamHandler[Any]):
    """Prints messages on a stream; on a terminal lines break between words.

    A message that cannot be formatted is an error of dltrain's, and is raised.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.setLevel(logging.INFO)

    def format(self, record: logging.LogRecord) -> str:
        """Return the message, wrapped to the terminal."""
        return wrapped_to_screen(super().format(record))

    def handleError(self, record: logging.LogRecord) -> None:
        """Raise the error."""
        raise


def wrapped_to_screen(text: str, stream: TextIO | None = None) -> str:
    """Return `text` wrapped between words to a terminal's width; unchanged for a file or a pipe."""
    width = screen_width(stream)
    if width is None:
        return text
    return wrap(text, width)


@contextmanager
def screen_messages() -> Iterator[None]:
    """Print the messages that are logged in the block."""
    handler = Screen(sys.stdout)
    log.setLevel(logging.DEBUG)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
