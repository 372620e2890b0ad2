"""Text on a terminal: widths of characters, padding, wrapping, and the width of the screen."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from contextlib import suppress
from typing import TextIO

ELLIPSIS = "…"


def cells(text: str) -> int:
    """Return how many columns `text` takes: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def pad(text: str, width: int, right: bool = False) -> str:
    """Return `text` with spaces after it, or before it, up to `width` columns."""
    blank = " " * (width - cells(text))
    return blank + text if right else text + blank


def cut(text: str, width: int, ellipsis: str = ELLIPSIS) -> str:
    """Return `text`, with an ellipsis at its end if it takes more than `width` columns."""
    if cells(text) <= width:
        return text
    room = width - cells(ellipsis)
    if room < 0:
        return ""
    kept = ""
    for character in text:
        if cells(kept + character) > room:
            break
        kept += character
    return kept + ellipsis


def wrap(text: str, width: int, hanging: str = "    ") -> str:
    """Return `text` with every line that is longer than `width` broken between words.

    The rest of a line is indented as its beginning, and by `hanging`. A longer word, such as a
    path, stays whole.
    """
    lines: list[str] = []
    for line in text.split("\n"):
        if cells(line) <= width:
            lines.append(line)
        else:
            lines += _wrapped_line(line, width, hanging)
    return "\n".join(lines)


def _wrapped_line(line: str, width: int, hanging: str) -> list[str]:
    lines: list[str] = []
    indent = line[: len(line) - len(line.lstrip(" "))]
    current = indent
    for gap, word in re.findall(r"( *)([^ ]+)", line[len(indent) :]):
        if current.strip() and cells(current + gap + word) > width:
            lines.append(current)
            current = indent + hanging + word
        else:
            current += gap + word
    return [*lines, current]


def screen_width(stream: TextIO | None = None) -> int | None:
    """Return the number of columns of a stream's terminal; None if it is not a terminal.

    Without a stream it is that of standard output.
    """
    stream = stream or sys.stdout
    if stream is None or not stream.isatty():
        return None
    with suppress(OSError, ValueError):
        return os.get_terminal_size(stream.fileno()).columns or None
    return None


def can_redraw() -> bool:
    """Tell if standard output can show a line that changes: on a terminal, or in a notebook."""
    if sys.stdout is None:
        return False
    return sys.stdout.isatty() or is_notebook()


def is_notebook() -> bool:
    """Tell if the process is a notebook's kernel with the widgets that rich draws in."""
    if "ipykernel" not in sys.modules or importlib.util.find_spec("ipywidgets") is None:
        return False
    from rich.console import Console

    return Console().is_jupyter
