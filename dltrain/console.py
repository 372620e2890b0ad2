"""Standard streams that cannot end a run: what cannot be written is dropped, and the first error is
kept.

Files are the truth of a run, and the screen is not: a full disk, a terminal that is gone or a
closed pipe costs messages, never training.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

CLOSED = OSError(errno.EBADF, "it is closed")


class SafeStream(io.TextIOBase):
    """A text stream whose writes never raise. `stream` is None where the process has none.

    `error` is the first error of writing. Later writes are tried again: a disk may have room again.
    Characters that the stream's encoding lacks are written as question marks.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        if self.stream is None:
            self.error = self.error or CLOSED
            return len(text)
        try:
            self.stream.write(text)
        except UnicodeEncodeError:
            known = self.stream.encoding or "ascii"
            self.write(text.encode(known, "replace").decode(known))
        except (OSError, ValueError) as e:
            self._drop(e)
        return len(text)

    def flush(self) -> None:
        if self.stream is None:
            return
        try:
            self.stream.flush()
        except (OSError, ValueError) as e:
            self._drop(e)

    def _drop(self, error: OSError | ValueError) -> None:
        """Keep the error, and empty the buffer: what is in it would fail again, also when the
        process ends.
        """
        if self.error is None:
            self.error = error if isinstance(error, OSError) else OSError(errno.EBADF, str(error))
        assert self.stream is not None
        with suppress(OSError, ValueError):
            number = self.stream.fileno()
            kept = os.dup(number)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            try:
                os.dup2(nowhere, number)
                self.stream.flush()
            finally:
                os.dup2(kept, number)
                os.close(kept)
                os.close(nowhere)

    @property
    def lost(self) -> OSError | None:
        """The error that lost output, if any; a reader that closes the pipe is not an error (`dltrain list
        | head`).
        """
        self.flush()
        return None if isinstance(self.error, BrokenPipeError) else self.error

    def isatty(self) -> bool:
        with suppress(OSError, ValueError):
            return self.stream is not None and self.stream.isatty()
        return False

    def fileno(self) -> int:
        if self.stream is None:
            raise io.UnsupportedOperation("fileno")
        return self.stream.fileno()

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return (self.stream.encoding if self.stream is not None else None) or "utf-8"

    def __getattr__(self, name: str) -> Any:
        """Hand over what else the stream has: `buffer`, `name`, `reconfigure`."""
        return getattr(self.stream, name)


@contextmanager
def safe_streams() -> Iterator[SafeStream]:
    """Replace standard output and standard error in the block by streams that never raise; yield
    the former.
    """
    before = sys.stdout, sys.stderr
    output = SafeStream(sys.stdout)
    sys.stdout, sys.stderr = output, SafeStream(sys.stderr)
    try:
        yield output
    finally:
        output.flush()
        sys.stdout, sys.stderr = before


def open_closed_descriptors() -> None:
    """Open the null device where standard input, output or error is closed (as under cron).

    Without it a file of the run would get the descriptor, and what a library writes to the screen
    would end up in it. Output is opened for reading only, so that writing there fails as it would
    have.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            found = os.open(os.devnull, os.O_RDONLY)
            if found != number:
                os.dup2(found, number)
                os.close(found)
