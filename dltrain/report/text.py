"""Lines of text for a terminal, a pipe or a log: aligned tables and numbers that can be read."""

from __future__ import annotations

import math
from collections.abc import Sequence

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
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


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


def fields(values: Sequence[Sequence[float]], marks: Sequence[Sequence[str]], title: str = "") -> str:
    """A plane of fields: the marks side by side, and beside them the figures, a dash where there is none."""
    figures = [["-" if v != v else f"{v:.3g}" for v in row] for row in values]
    width = max(len(text) for row in figures for text in row)
    rows = (
        f"  {' '.join(some)}    {' '.join(text.rjust(width) for text in line)}"
        for some, line in zip(marks, figures, strict=True)
    )
    return "\n".join([title, *rows] if title else rows)


def table(rows: Sequence[Sequence[str]], indent: str = "  ", right: frozenset[int] = frozenset()) -> str:
    """Rows with their columns aligned, those in `right` to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append((indent + "  ".join(cells)).rstrip())
    return "\n".join(lines)
