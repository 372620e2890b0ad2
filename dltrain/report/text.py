"""Numbers that can be read, aligned tables, and diagrams of characters."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from dltrain.terminal import cells, pad, screen_width, wrap

GAP = "  "  # between columns
MIN_COLUMN = 8  # columns of a terminal that the last column of a table gets at least
UNDEFINED = "undefined"  # a figure that has no value, such as a ratio to zero
BYTES_PER_UNIT = 1000


def number(value: float | None) -> str:
    """Return a figure with four significant digits, whole thousands with separators."""
    if value is None or not math.isfinite(value):
        return UNDEFINED
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 0.001 or value == 0:
        return f"{value:.4f}"
    return f"{value:.3g}"


def duration(seconds: float) -> str:
    """Return a time as 12.3 s, 4 min 05 s or 2 h 13 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def counted_noun(count: int, noun: str) -> str:
    """Return a number with its noun, as in "1 row" and "1,200 rows"."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun}s"


def size(count: float) -> str:
    """Return bytes as B, KB, MB or GB (powers of 1000)."""
    if count < BYTES_PER_UNIT:
        return f"{count:.0f} B"
    for unit in ("KB", "MB"):
        count /= BYTES_PER_UNIT
        if count < BYTES_PER_UNIT:
            return f"{count:.1f} {unit}"
    return f"{count / BYTES_PER_UNIT:.1f} GB"


def chart(values: Sequence[float], x_title: str, height: int = 12) -> str:
    """Return a diagram of values from 0 on: a star each, over an axis up to the largest.

    `x_title` stands at the right end.
    """
    top = max(values) or 1.0
    levels = [round(value / top * (height - 1)) for value in values]
    labels = {height - 1: number(top), 0: "0"}
    margin = max(map(len, labels.values()))
    lines = []
    for row in reversed(range(height)):
        label = labels.get(row, "").rjust(margin)
        stars = "".join("*" if level == row else " " for level in levels)
        lines.append(f"  {label} |{stars}".rstrip())
    blank = " " * margin
    lines.append(f"  {blank} +{'-' * len(values)}")
    lines.append(f"  {blank}  {pad(x_title, len(values), right=True)}")
    return "\n".join(lines)


def fields(
    values: Sequence[Sequence[float]], marks: Sequence[Sequence[str]], title: str = ""
) -> str:
    """Return a plane of fields: the marks side by side, the values beside them, a dash for NaN."""
    figures = [list(map(_figure, row)) for row in values]
    width = max(map(len, itertools.chain.from_iterable(figures)))
    lines = []
    if title:
        lines.append(title)
    for row_marks, row in zip(marks, figures, strict=True):
        padded = " ".join(text.rjust(width) for text in row)
        lines.append(f"  {' '.join(row_marks)}    {padded}")
    return "\n".join(lines)


def _figure(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.3g}"


def table(
    rows: Sequence[Sequence[str]],
    indent: str = "  ",
    right: frozenset[int] = frozenset(),
    width: int | None = None,
) -> str:
    """Return rows with aligned columns; those in `right` are aligned to the right.

    On a terminal, or with a `width`, words wrap so that no line is longer: cells go over several
    lines. If that is not enough the columns go into several tables, one below the other, which all
    begin with the first column.
    """
    columns = [list(column) for column in zip(*rows, strict=True)]
    width = width or screen_width()
    if width is None:
        return _aligned(columns, _text_widths(columns), indent, right)
    room = width - cells(indent)
    tables = []
    for numbers in _parts(columns, room):
        part = [columns[i] for i in numbers]
        right_in_part = frozenset(map(numbers.index, right.intersection(numbers)))
        tables.append(_aligned(part, _narrowed(part, room), indent, right_in_part))
    return "\n".join(tables)


def _aligned(
    columns: Sequence[Sequence[str]],
    widths: Sequence[int],
    indent: str,
    right: frozenset[int],
) -> str:
    """Return columns side by side, with their cells wrapped to their widths."""
    lines = []
    for row in zip(*columns, strict=True):
        wrapped = [_wrapped_cell(text, width) for text, width in zip(row, widths, strict=True)]
        height = max(map(len, wrapped))
        for k in range(height):
            padded = []
            for i, (cell_lines, width) in enumerate(zip(wrapped, widths, strict=True)):
                part = "".join(cell_lines[k : k + 1])  # empty below the last line
                padded.append(pad(part, width, i in right))
            lines.append((indent + GAP.join(padded)).rstrip())
    return "\n".join(lines)


def _parts(columns: Sequence[Sequence[str]], room: int) -> list[list[int]]:
    """Return the numbers of the columns of each table: as many as fit in `room`, wrapped."""
    if len(columns) <= 2:
        return [list(range(len(columns)))]
    needed = _word_widths(columns)
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

    If words are too long for that, the last column gets the rest, and its long words stand out.
    """
    widths = _text_widths(columns)
    needed = _word_widths(columns)
    gaps = len(GAP) * (len(widths) - 1)
    if sum(needed) + gaps > room:
        return [*widths[:-1], max(MIN_COLUMN, room - gaps - sum(widths[:-1]))]
    while sum(widths) + gaps > room:
        spare = [width - least for width, least in zip(widths, needed, strict=True)]
        widths[spare.index(max(spare))] -= 1
    return widths


def _text_widths(columns: Sequence[Sequence[str]]) -> list[int]:
    """Return the width of each column's longest text."""
    return [max(map(cells, column)) for column in columns]


def _word_widths(columns: Sequence[Sequence[str]]) -> list[int]:
    """Return the width of each column's longest word."""
    return [max(map(_longest_word, column)) for column in columns]


def _longest_word(text: str) -> int:
    return max(map(cells, text.split()), default=0)


def _wrapped_cell(text: str, width: int) -> list[str]:
    """Return a cell's text in lines of at most `width`, as far as its words go."""
    if cells(text) <= width:
        return [text]
    return wrap(text, width, "").split("\n")
