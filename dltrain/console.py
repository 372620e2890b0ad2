"""Standard streams that cannot end a run: text that cannot be written is dropped.

The results of a run are in its files. A full disk, a closed terminal or a closed pipe costs
messages, never training. Characters that the encoding of a stream lacks are written as ASCII
look-alikes, or escaped.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

STDOUT = 1
STDERR = 2
CLOSED = OSError(errno.EBADF, "it is closed")
LOOK_ALIKES = {  # of one column where that is possible: maps and tables stay aligned
    **dict(zip("→←↑↓⇒⇐", "><^v><", strict=True)),
    **dict(zip("─━═╌┄┈╴╶│┃║╎┆┊╵╷", "--=-----||||||||", strict=True)),
    **dict.fromkeys("┌┐└┘├┤┬┴┼┏┓┗┛┣┫┳┻╋╔╗╚╝╠╣╦╩╬╭╮╯╰╸╺╹╻", "+"),
    **dict.fromkeys("█▉▊▋▌▐▀▄▓▒░■●•✓✔", "*"),
    **dict(zip("·−–‐‑‒‘’“”‹›✗✘\u00a0\u202f", ".-----''\"\"<>xx  ", strict=True)),
    "…": "...",
    "—": "--",
    "×": "x",
    "÷": "/",
    "±": "+-",
    "≤": "<=",
    "≥": ">=",
    "≠": "!=",
    "≈": "~",
    "∞": "inf",
    "µ": "u",
    "°": " deg",
    "²": "^2",
    "³": "^3",
}


def encodable(text: str, encoding: str) -> str:
    r"""Return `text` with what `encoding` lacks replaced by ASCII look-alikes, or escaped.

    An arrow becomes a letter of its shape; a word in another script is escaped, as in `\u4e2d`.
    """
    if is_encodable(text, encoding):
        return text
    written = []
    for character in text:
        if not is_encodable(character, encoding):
            escaped = character.encode("ascii", "backslashreplace").decode("ascii")
            character = LOOK_ALIKES.get(character, escaped)
        written.append(character)
    return "".join(written)


def is_encodable(text: str, encoding: str) -> bool:
    """Return True if `encoding` has every character of `text`; an unknown encoding has ASCII."""
    if text.isascii():
        return True
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


class SafeStream(io.TextIOBase):
    """A text stream whose writes never raise. `stream` is None if the process has none.

    `error` is the first error of writing. Later writes are tried: a disk may have room again.
    Characters that the stream's encoding lacks are written as `encodable` replaces them.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """Write `text` as far as possible, and return its length."""
        if self.stream is None:
            self.error = self.error or CLOSED
            return len(text)
        try:
            self.stream.write(encodable(text, self.encoding))
        except (OSError, ValueError) as e:
            self._drop(e)
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        if self.stream is None:
            return
        try:
            self.stream.flush()
        except (OSError, ValueError) as e:
            self._drop(e)

    def _drop(self, error: OSError | ValueError) -> None:
        """Keep the error and empty the buffer: its content would fail again at exit."""
        if self.error is None:
            if not isinstance(error, OSError):
                error = OSError(errno.EBADF, str(error))
            self.error = error
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
        """The error that lost output, or None.

        A reader that closes the pipe is not an error (`dltrain list | head`).
        """
        self.flush()
        return None if isinstance(self.error, BrokenPipeError) else self.error

    def isatty(self) -> bool:
        """Tell if the stream is a terminal."""
        with suppress(OSError, ValueError):
            return self.stream is not None and self.stream.isatty()
        return False

    def fileno(self) -> int:
        """Return the stream's file descriptor."""
        if self.stream is None:
            raise io.UnsupportedOperation("fileno")
        return self.stream.fileno()

    def writable(self) -> bool:
        """Return True: writes never raise."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's encoding."""
        if self.stream is None:
            return "utf-8"
        return self.stream.encoding or "utf-8"

    def __getattr__(self, name: str) -> Any:
        """Return another attribute of the stream: `buffer`, `name`, `reconfigure`."""
        return getattr(self.stream, name)


@contextmanager
def safe_streams() -> Iterator[SafeStream]:
    """Replace standard output and error in the block by safe streams; yield that of the output."""
    before = sys.stdout, sys.stderr
    output = SafeStream(sys.stdout)
    sys.stdout, sys.stderr = output, SafeStream(sys.stderr)
    try:
        yield output
    finally:
        output.flush()
        sys.stdout, sys.stderr = before


@contextmanager
def output_on_error(is_on: bool) -> Iterator[None]:
    """Write on standard error what the block writes on standard output, if `is_on`.

    That includes libraries and programs that write to the descriptor, not to the stream.
    """
    if not is_on:
        yield
        return
    before = sys.stdout
    sys.stdout = sys.stderr
    try:
        with _descriptor_on_error(before):
            yield
    finally:
        sys.stdout = before


@contextmanager
def _descriptor_on_error(output: TextIO) -> Iterator[None]:
    """Let the descriptor of standard output lead to standard error in the block.

    Nothing changes where one of them is closed, or the output is no file, as in a notebook.
    """
    kept: int | None = None
    with suppress(OSError, ValueError):
        if output.fileno() == STDOUT:
            output.flush()
            os.fstat(STDERR)
            kept = os.dup(STDOUT)
            os.dup2(STDERR, STDOUT)
    try:
        yield
    finally:
        if kept is not None:
            os.dup2(kept, STDOUT)
            os.close(kept)


def open_closed_descriptors() -> None:
    """Open the null device as standard input, output or error if that is closed (as under cron).

    Otherwise a file of the run would get the descriptor, and a library that writes to the screen
    would write into it. Output is opened for reading only, so that writing fails as before.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            descriptor = os.open(os.devnull, os.O_RDONLY)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
