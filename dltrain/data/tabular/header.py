"""Looks at the first lines of a csv file: Excel's separator line, names, or a row of data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

Record = tuple[int, list[str]]  # the line on which it begins, and its fields

SEPARATOR_LINE = re.compile(
    r"\"?sep=(.)\"?\1*\"?", re.IGNORECASE
)  # other programs fill the line up with separators
NUMBER = re.compile(r"\s*[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?\s*")
YEARS = range(1800, 2101)
MIN_REPEATED_SHARE = (
    0.5  # a text column with more different values than this is names rather than categories
)


def stated_separator(first_line: str) -> str | None:
    """Return the character of Excel's line "sep=;"; None for any other line."""
    found = SEPARATOR_LINE.fullmatch(first_line.rstrip("\r\n"))
    return found[1] if found else None


def looks_like_data(header: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Tell whether a first line is a row of data rather than names, from the rows below it.

    A number above numbers speaks for data, and so does a text that is one of a column's few. A name
    above numbers, or above texts that do not contain it, speaks for a header. Numbers that count (0,
    1, 2 or 1990, 1991) are names too.
    """
    rows = [row for row in rows if len(row) == len(header)]
    votes = [_vote(name, [row[at] for row in rows]) for at, name in enumerate(header)]
    data, names = votes.count("data"), votes.count("header")
    numbers = [float(name.replace(",", ".")) for name in header if is_number(name)]
    if _count_places(numbers) or (len(numbers) > 2 and _outside(header, rows)):
        data -= len(numbers)
    elif _evenly_spaced(numbers):
        years = all(number in YEARS for number in numbers)
        if years or (names and len(numbers) > 2) or _outside(header, rows):
            data -= len(numbers)
    return data > names


def is_number(text: str) -> bool:
    return NUMBER.fullmatch(text) is not None


def _vote(name: str, values: Sequence[str]) -> str:
    """Say what one column speaks for: "data", "header", or "" for neither."""
    present = [value for value in values if value.strip()]
    if not present or not name.strip():
        return ""
    if sum(map(is_number, present)) > len(present) / 2:
        return "data" if is_number(name) else "header"
    if len(set(present)) > MIN_REPEATED_SHARE * len(present):
        return ""
    return "data" if name in present else "header"


def _count_places(numbers: Sequence[float]) -> bool:
    places = list(range(len(numbers)))
    return numbers in (places, [place + 1 for place in places])


def _evenly_spaced(numbers: Sequence[float]) -> bool:
    steps = {round(after - before, 9) for before, after in pairwise(numbers)}
    return len(steps) == 1 and 0 not in steps


def _outside(header: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Tell whether the numbers of a first line lie outside of what their columns hold."""
    for at, name in enumerate(header):
        values = [float(row[at].replace(",", ".")) for row in rows if is_number(row[at])]
        if (
            is_number(name)
            and values
            and min(values) <= float(name.replace(",", ".")) <= max(values)
        ):
            return False
    return True
