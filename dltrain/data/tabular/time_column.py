"""Finds the column of a table that says when each row is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from dltrain.data.io.dates import looks_like_dates
from dltrain.data.tabular.files.header import as_number, is_number
from dltrain.errors import ConfigError

TIME_NAMES = frozenset(
    re.findall(
        r"\w+",
        "date datetime time timestamp day month year ds t ts index step period unix epoch "
        "datum zeit jahr année annee anno fecha año ano jaar år",
    )
)
# Numbers that are days or months: 20200131, 202001.
DAY_NUMBER = re.compile(r"(?:1[89]|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])?")
# Unix times from 1985 to 2039, in seconds, milliseconds, microseconds and nanoseconds.
UNIX_TIMES = tuple((5e8 * unit, 2.2e9 * unit) for unit in (1.0, 1e3, 1e6, 1e9))
MIN_MOMENTS = 10  # numbers that are judged by their values


@dataclass(frozen=True)
class TimeColumn:
    """The column that says when each row of a series is: by dates, or by numbers."""

    name: str
    dates: bool


def find_time_column(sample: Mapping[str, Sequence[str]], series: str) -> TimeColumn | None:
    """Return the first column of dates in a table, else one of numbers whose name says time.

    None if there is neither. `sample` are texts by column; `series` is not considered.
    """
    columns = {name: not_empty(texts) for name, texts in sample.items() if name != series}
    dates = next((name for name, texts in columns.items() if looks_like_dates(texts)), None)
    if dates is not None:
        return TimeColumn(dates, dates=True)
    moments = first_moments(columns)
    return None if moments is None else TimeColumn(moments, dates=False)


def first_moments(columns: Mapping[str, Sequence[str]]) -> str | None:
    """Return the first column of numbers that are times by its name, else by the numbers."""
    numbers = {name: texts for name, texts in columns.items() if texts and are_numbers(texts)}
    by_numbers = (name for name, texts in numbers.items() if are_moments(texts))
    return next(chain(named_moments(numbers), by_numbers), None)


def named_moments(numbers: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the columns whose names say time; those without repeated numbers come first."""
    named = [name for name in numbers if name.strip().lower() in TIME_NAMES]
    return sorted(named, key=lambda name: has_repeated_text(numbers[name]))


def named_time_column(sample: Mapping[str, Sequence[str]], name: str) -> TimeColumn:
    """Return the column that the user says is the time.

    ConfigError for an unknown name.
    """
    if name not in sample:
        problem = f"there is no column of that name, but {', '.join(sample)} (auto, none)"
        raise ConfigError([(f"dataset.time={name}", problem)])
    return TimeColumn(name, dates=not are_numbers(not_empty(sample[name])))


def not_empty(texts: Sequence[str]) -> list[str]:
    """Return the texts with a value."""
    return [text for text in texts if text.strip()]


def are_numbers(texts: Sequence[str]) -> bool:
    """Return whether all texts are numbers."""
    return all(map(is_number, texts))


def has_repeated_text(texts: Sequence[str]) -> bool:
    """Return whether a text occurs twice."""
    return len(set(texts)) < len(texts)


def are_moments(texts: Sequence[str]) -> bool:
    """Return whether numbers are days such as 20200131, Unix times, or count evenly down."""
    values = np.array([as_number(text) for text in texts])
    if len(values) < MIN_MOMENTS or len(np.unique(values)) < len(values):
        return False
    if all(DAY_NUMBER.fullmatch(text.strip()) for text in texts):
        return True
    return are_in_order(values)


def are_in_order(values: NDArray[np.float64]) -> bool:
    """Return whether Unix times (N,) fall or rise, or other numbers count evenly down."""
    steps = np.diff(values)
    falls, rises = bool((steps < 0).all()), bool((steps > 0).all())
    if are_unix_times(values):
        return falls or rises
    return falls and np.allclose(steps, steps[0])


def are_unix_times(values: NDArray[np.float64]) -> bool:
    """Return whether all values (N,) are Unix times in one unit."""
    return any(((low < values) & (values < high)).all() for low, high in UNIX_TIMES)
