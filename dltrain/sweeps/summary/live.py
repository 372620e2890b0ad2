"""A part of the screen that changes while a sweep runs; messages appear above it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.live import Live

log = logging.getLogger("dltrain")


class LiveScreen:
    """Shows lines at the bottom of a terminal, or in a notebook, and replaces them.

    Before a message is printed, the lines disappear; the next `show` brings them back.
    """

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console()
        self.live: Live | None = None
        log.addFilter(self.make_room)

    def size(self) -> tuple[int, int]:
        """Return the numbers of columns and of lines of the screen."""
        return self.console.size.width, self.console.size.height

    @property
    def encoding(self) -> str:
        """The encoding of the screen."""
        return self.console.encoding

    def show(self, lines: str) -> None:
        """Show lines in the place of those before."""
        from rich.live import Live
        from rich.text import Text

        text = Text(lines, no_wrap=True, overflow="crop")
        if self.live is None:
            self.live = Live(
                console=self.console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
                vertical_overflow="crop",
            )
            self.live.start()
        self.live.update(text, refresh=True)

    def make_room(self, record: logging.LogRecord) -> bool:
        """Take the lines off the screen before a message is printed."""
        if record.levelno >= logging.INFO:
            self.clear()
        return True

    def clear(self) -> None:
        """Take the lines off the screen."""
        if self.live is not None:
            self.live.stop()
            self.live = None

    def close(self) -> None:
        """Take the lines off the screen for good."""
        self.clear()
        log.removeFilter(self.make_room)
