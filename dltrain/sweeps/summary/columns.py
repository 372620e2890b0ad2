"""Tables that fit a screen: cells are cut with an ellipsis, and columns left out, never wrapped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from dltrain.console import encodable
from dltrain.terminal import ELLIPSIS, cells, cut, pad

GAP = "  "
INDENT = "  "
MIN_CELLS = 8  # to which a header may be cut, if it has more
Lines = Sequence[Sequence[str]]


def cut_table(
    lines: Lines,
    width: int | None,
    may_cut: Mapping[int, int] | None = None,
    may_drop: Iterable[int] = (),
    encoding: str = "utf-8",
) -> str:
    """Return lines with aligned columns, none of them longer than `width`; the first is the header.

    On a narrow screen headers are cut, and the cells of columns in `may_cut`, down to the widths
    that it has. If that is not enough, columns in `may_drop` are left out, the first one first, and
    at last lines are cut. `encoding` is that of the screen.
    """
    columns = printable_columns(lines, encoding)
    widest = [max(map(cells, column)) for column in columns]
    mark = encodable(ELLIPSIS, encoding)
    if width is None:
        return "\n".join(aligned(columns, widest, mark))
    least = least_widths(columns, may_cut or {})
    shown = columns_that_fit(least, may_drop, width)
    widths = narrowed([widest[i] for i in shown], [least[i] for i in shown], width)
    fitting = aligned([columns[i] for i in shown], widths, mark)
    return "\n".join(cut(line, width, mark) for line in fitting)


def printable_columns(lines: Lines, encoding: str) -> list[list[str]]:
    """Return the columns of lines, of characters that a screen with `encoding` can show."""
    columns = []
    for column in zip(*lines, strict=True):
        columns.append([encodable(one_line(text), encoding) for text in column])
    return columns


def columns_that_fit(least: Sequence[int], may_drop: Iterable[int], width: int) -> list[int]:
    """Return the numbers of the columns to show; those in `may_drop` go until the rest fits."""
    shown = list(range(len(least)))
    for dropped in may_drop:
        if needed(least[i] for i in shown) <= width:
            break
        shown.remove(dropped)
    return shown


def one_line(text: str) -> str:
    """Return a text without line breaks and other characters that move the cursor."""
    return "".join(character if character.isprintable() else " " for character in text)


def least_widths(columns: Lines, may_cut: Mapping[int, int]) -> list[int]:
    """Return the width to which each column may be narrowed."""
    widths = []
    for i, column in enumerate(columns):
        header, body = cells(column[0]), max(map(cells, column[1:]), default=0)
        if i in may_cut:
            widths.append(min(max(header, body), may_cut[i]))
        else:
            widths.append(max(body, min(header, MIN_CELLS)))
    return widths


def needed(widths: Iterable[int]) -> int:
    """Return the width of a line whose columns have `widths`."""
    return len(INDENT) - len(GAP) + sum(len(GAP) + width for width in widths)


def narrowed(widths: list[int], least: list[int], room: int) -> list[int]:
    """Return widths that fit in `room`: the widest column that may be narrower gives way first."""
    widths = list(widths)
    while needed(widths) > room:
        spare = [i for i, width in enumerate(widths) if width > least[i]]
        if not spare:
            break
        widths[max(spare, key=widths.__getitem__)] -= 1
    return widths


def aligned(columns: Lines, widths: Sequence[int], mark: str) -> list[str]:
    """Return columns side by side; a cell that is too long is cut, with `mark` at its end."""
    lines = []
    for row in zip(*columns, strict=True):
        fitting = [pad(cut(text, w, mark), w) for text, w in zip(row, widths, strict=True)]
        lines.append((INDENT + GAP.join(fitting)).rstrip())
    return lines
