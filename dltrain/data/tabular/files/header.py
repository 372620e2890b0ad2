"""Looks at the first lines of a CSV file: Excel's separator line, names, or a row of data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, TypeAlias

# Excel's line; other programs pad the line with separators.
SEPARATOR_LINE = re.compile(r"\"?sep=(.)\"?\1*\"?", re.IGNORECASE)
NUMBER = re.compile(r"\s*[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?\s*")
YEARS = range(1800, 2101)
MAX_DISTINCT_FRACTION = 0.5  # of a text column's values that are different; others are names
Vote: TypeAlias = Literal["data", "header", ""]


def stated_separator(first_line: str) -> str | None:
    """Return the character of Excel's line "sep=;"; None for any other line."""
    match = SEPARATOR_LINE.fullmatch(first_line.rstrip("\r\n"))
    if match:
        return match[1]
    return None


def is_number(text: str) -> bool:
    """Return whether a text is a number with a decimal point or comma."""
    return NUMBER.fullmatch(text) is not None


def columns_below(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return the texts of each column, from the rows with as many fields as the header."""
    whole_rows = [row for row in rows if len(row) == len(header)]
    return [[row[position] for row in whole_rows] for position in range(len(header))]


def looks_like_data(header: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Return whether a first line is a row of data rather than names, by the rows below it.

    A number above numbers speaks for data, and so does a text that is one of a column's few. A name
    above numbers, or above texts that do not contain it, speaks for a header. Numbers that count
    (0, 1, 2 or 1990, 1991) are names too.
    """
    columns = columns_below(header, rows)
    votes = [vote_of(name, values) for name, values in zip(header, columns, strict=True)]
    data_votes = votes.count("data")
    header_votes = votes.count("header")
    numbers = [as_number(name) for name in header if is_number(name)]
    if are_column_names(numbers, header_votes, is_outside(header, columns)):
        data_votes -= len(numbers)
    return data_votes > header_votes


def vote_of(name: str, values: Sequence[str]) -> Vote:
    """Return what one column speaks for, "" for neither."""
    present = [value for value in values if value.strip()]
    if not present or not name.strip():
        return ""
    if sum(map(is_number, present)) > len(present) / 2:
        if is_number(name):
            return "data"
        return "header"
    return vote_of_texts(name, present)


def vote_of_texts(name: str, texts: Sequence[str]) -> Vote:
    """Return what a column of texts speaks for, "" if most of them are different."""
    if len(set(texts)) > MAX_DISTINCT_FRACTION * len(texts):
        return ""
    if name in texts:
        return "data"
    return "header"


def are_column_names(numbers: Sequence[float], header_votes: int, outside: bool) -> bool:
    """Return whether the `numbers` in a first line are names of columns.

    `outside`: they lie outside of what their columns hold.
    """
    has_several = len(numbers) > 2
    if count_from_start(numbers) or (has_several and outside):
        return True
    if not are_evenly_spaced(numbers):
        return False
    are_years = all(number in YEARS for number in numbers)
    is_header = header_votes > 0 and has_several
    return are_years or is_header or outside


def as_number(text: str) -> float:
    """Return the number of a text, with a decimal point or comma."""
    return float(text.replace(",", "."))


def count_from_start(numbers: Sequence[float]) -> bool:
    """Return whether numbers are 0, 1, 2, ... or 1, 2, 3, ..."""
    from_zero = list(range(len(numbers)))
    from_one = [number + 1 for number in from_zero]
    return numbers in (from_zero, from_one)


def are_evenly_spaced(numbers: Sequence[float]) -> bool:
    """Return whether numbers rise or fall in equal steps."""
    steps = {round(after - before, 9) for before, after in pairwise(numbers)}
    return len(steps) == 1 and 0 not in steps


def is_outside(header: Sequence[str], columns: Sequence[Sequence[str]]) -> bool:
    """Return whether the numbers of a first line lie outside of what their columns hold."""
    for name, texts in zip(header, columns, strict=True):
        values = [as_number(text) for text in texts if is_number(text)]
        if is_number(name) and values and min(values) <= as_number(name) <= max(values):
            return False
    return True
