"""Lines of text for a terminal, a pipe or a log: aligned tables and numbers that can be read."""

from __future__ import annotations

import math
import os
import re
import sys
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO

GAP = "  "  # between columns
MIN_COLUMN = 8  # of a terminal
UNDEFINED = "undefined"  # a figure that has no value, such as a ratio to zero


def number(value: float | None) -> str:
    """Format a figure to four significant digits, whole thousands with separators."""
    if value is None or not math.isfinite(value):
        return UNDEFINED
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4f}" if abs(value) >= 0.001 or value == 0 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """12.3 s, 4 min 05 s, 2 h 13 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return (
        f"{minutes} min {rest:02d} s"
        if minutes < 60
        else f"{minutes // 60} h {minutes % 60:02d} min"
    )


def counted_noun(count: int, noun: str) -> str:
    """Return a number with its noun, as in "1 row" and "1,200 rows"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def size(count: float) -> str:
    """Bytes as B, KB, MB or GB (powers of 1000)."""
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def chart(values: Sequence[float], x_title: str, height: int = 12) -> str:
    """`values`, none below 0, a star each over an axis from 0 to the largest; `x_title` stands at its right end."""
    top = max(values) or 1.0
    levels = [round(value / top * (height - 1)) for value in values]
    labels = {height - 1: number(top), 0: "0"}
    margin = max(map(len, labels.values()))
    lines = []
    for row in reversed(range(height)):
        stars = "".join("*" if level == row else " " for level in levels)
        lines.append(f"  {labels.get(row, ''):>{margin}} |{stars}".rstrip())
    axis = ["-" * len(values), x_title.rjust(len(values))]
    return "\n".join([*lines, f"  {'':{margin}} +{axis[0]}", f"  {'':{margin}}  {axis[1]}"])


def fields(
    values: Sequence[Sequence[float]], marks: Sequence[Sequence[str]], title: str = ""
) -> str:
    """A plane of fields: the marks side by side, and beside them the figures, a dash where there is none."""
    figures = [["-" if v != v else f"{v:.3g}" for v in row] for row in values]
    width = max(len(text) for row in figures for text in row)
    rows = (
        f"  {' '.join(some)}    {' '.join(text.rjust(width) for text in line)}"
        for some, line in zip(marks, figures, strict=True)
    )
    return "\n".join([title, *rows] if title else rows)


def table(
    rows: Sequence[Sequence[str]],
    indent: str = "  ",
    right: frozenset[int] = frozenset(),
    width: int | None = None,
) -> str:
    """Return rows with their columns aligned, those in `right` to the right.

    On a terminal, or with a `width`, no line is longer than that as far as words go: cells of
    several words go over several lines, and where that is not enough the columns go into several
    tables one under the other, which all begin with the first column.
    """
    columns = [list(column) for column in zip(*rows, strict=True)]
    width = width or screen_width()
    if width is None:
        return _aligned(columns, [max(map(cells, column)) for column in columns], indent, right)
    room = width - cells(indent)
    parts = _parts(columns, room)
    tables = []
    for part in parts:
        some = [columns[i] for i in part]
        to_the_right = frozenset(k for k, i in enumerate(part) if i in right)
        tables.append(_aligned(some, _narrowed(some, room), indent, to_the_right))
    return "\n".join(tables)


def _aligned(
    columns: Sequence[Sequence[str]],
    widths: Sequence[int],
    indent: str,
    right: frozenset[int],
) -> str:
    lines = []
    for row in zip(*columns, strict=True):
        wrapped = [_wrapped_cell(text, width) for text, width in zip(row, widths, strict=True)]
        for k in range(max(map(len, wrapped))):
            parts = [cell[k] if k < len(cell) else "" for cell in wrapped]
            pairs = enumerate(zip(parts, widths, strict=True))
            padded = [pad(part, width, i in right) for i, (part, width) in pairs]
            lines.append((indent + GAP.join(padded)).rstrip())
    return "\n".join(lines)


def _parts(columns: Sequence[Sequence[str]], room: int) -> list[list[int]]:
    """Return which columns go into one table: as many as fit in `room` at their narrowest."""
    needed = [max(map(_longest_word, column)) for column in columns]
    if len(columns) <= 2:
        return [list(range(len(columns)))]
    parts = [[0]]
    used = needed[0]
    for i in range(1, len(columns)):
        if used + len(GAP) + needed[i] > room and len(parts[-1]) > 1:
            parts.append([0])
            used = needed[0]
        parts[-1].append(i)
        used += len(GAP) + needed[i]
    return parts


def _narrowed(columns: Sequence[Sequence[str]], room: int) -> list[int]:
    """Return the widths of the columns, the widest narrowed until all fit.

    Where words are too long for that, the last column gets what the others leave, and its long
    words stand out.
    """
    widths = [max(map(cells, column)) for column in columns]
    needed = [max(map(_longest_word, column)) for column in columns]
    gaps = len(GAP) * (len(widths) - 1)
    if sum(needed) + gaps > room:
        return [*widths[:-1], max(MIN_COLUMN, room - gaps - sum(widths[:-1]))]
    while sum(widths) + gaps > room:
        free = [w - n for w, n in zip(widths, needed, strict=True)]
        widths[free.index(max(free))] -= 1
    return widths


def _longest_word(text: str) -> int:
    return max(map(cells, text.split()), default=0)


def _wrapped_cell(text: str, width: int) -> list[str]:
    """Return a cell's text in lines of at most `width`, as far as its words go."""
    if cells(text) <= width:
        return [text]
    return wrap(text, width, "").split("\n")


def cells(text: str) -> int:
    """Return how many columns of a terminal `text` takes: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(_cells_of(character) for character in text)


def _cells_of(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def pad(text: str, width: int, right: bool = False) -> str:
    """Return `text` with spaces after it, or before it, up to `width` columns of a terminal."""
    blank = " " * (width - cells(text))
    return blank + text if right else text + blank


def cut(text: str, width: int) -> str:
    """Return `text`, with an ellipsis where it takes more than `width` columns of a terminal."""
    if cells(text) <= width:
        return text
    kept = ""
    for character in text:
        if cells(kept + character) > width - 1:
            break
        kept += character
    return kept + "…" if width > 0 else ""


def wrap(text: str, width: int, hanging: str = "    ") -> str:
    """Return `text` with every line that is longer than `width` broken between words.

    What follows of a line is indented as it is, and by `hanging`. A word that is longer itself,
    such as a path, stays whole.
    """
    lines: list[str] = []
    for line in text.split("\n"):
        if cells(line) <= width:
            lines.append(line)
            continue
        indent = line[: len(line) - len(line.lstrip(" "))]
        current = indent
        for gap, word in re.findall(r"( *)([^ ]+)", line[len(indent) :]):
            if current.strip() and cells(current + gap + word) > width:
                lines.append(current)
                current = indent + hanging + word
            else:
                current += gap + word
        lines.append(current)
    return "\n".join(lines)


def screen_width(stream: TextIO | None = None) -> int | None:
    """Return how many columns the terminal of a stream has; None where it is no terminal.

    Without a stream it is that of standard output.
    """
    stream = stream or sys.stdout
    if stream is None or not stream.isatty():
        return None
    with suppress(OSError, ValueError):
        return os.get_terminal_size(stream.fileno()).columns or None
    return None
