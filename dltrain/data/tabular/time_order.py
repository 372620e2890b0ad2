"""Puts the rows of a series in the order of time, or refuses them with file and line."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dltrain.data.io.dates import as_date, looks_like_dates, moments
from dltrain.data.tabular.header import is_number
from dltrain.data.tabular.table import Column, Request, Table
from dltrain.data.tabular.table_files import TableFile
from dltrain.errors import ConfigError, InputError

log = logging.getLogger("dltrain")
DAY_SECONDS = 86_400
MAX_STEP = 1.7  # times the usual one: months have 28 to 31 days, and a longer step is a gap
WEEKEND = 3 * DAY_SECONDS  # from Friday to Monday
FRIDAY = 1  # of (days since 1970) mod 7
TIME_NAMES = frozenset(
    re.findall(
        r"\w+",
        "date datetime time timestamp day month year ds t ts index step period unix epoch "
        "datum zeit jahr année annee anno fecha año ano jaar år",
    )
)
DAY_NUMBER = re.compile(
    r"(?:1[89]|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])?"
)  # 20200131, 202001
UNIX_TIMES = tuple(
    (5e8 * unit, 2.2e9 * unit) for unit in (1.0, 1e3, 1e6, 1e9)
)  # 1985 to 2039, in s, ms, us, ns
MIN_MOMENTS = 10  # numbers that are judged by their values
HELP = "dataset.time=none takes the rows as they stand"


@dataclass(frozen=True)
class TimeColumn:
    """The column that says when each row of a series is: by dates, or by numbers."""

    name: str
    dates: bool


def find_time_column(sample: Mapping[str, Sequence[str]], series: str) -> TimeColumn | None:
    """Return the column of dates in a table, else one of numbers whose name says time.

    None where there is neither. `sample` are texts by column; `series` is not considered.
    """
    others = {
        name: [text for text in texts if text.strip()]
        for name, texts in sample.items()
        if name != series
    }
    for name, texts in others.items():
        if looks_like_dates(texts):
            return TimeColumn(name, dates=True)
    numbers = {
        name: texts for name, texts in others.items() if texts and all(map(is_number, texts))
    }
    named = [name for name in numbers if name.strip().lower() in TIME_NAMES]
    named.sort(
        key=lambda name: len(set(numbers[name])) < len(numbers[name])
    )  # columns that come first stay first
    for name in (*named, *(name for name, texts in numbers.items() if _are_moments(texts))):
        return TimeColumn(name, dates=False)
    return None


def _are_moments(texts: Sequence[str]) -> bool:
    """Tell whether numbers are days such as 20200131, seconds since 1970, or count evenly down."""
    values = [float(text.replace(",", ".")) for text in texts]
    if len(set(values)) < max(MIN_MOMENTS, len(values)):
        return False
    if all(DAY_NUMBER.fullmatch(text.strip()) for text in texts):
        return True
    steps = np.diff(values)
    if any(all(low < value < high for value in values) for low, high in UNIX_TIMES):
        return bool((steps < 0).all() or (steps > 0).all())
    return bool((steps < 0).all() and np.allclose(steps, steps[0]))


def named_time_column(sample: Mapping[str, Sequence[str]], name: str) -> TimeColumn:
    """Return the column that the user says is the time.

    ConfigError where there is none of that name.
    """
    if name not in sample:
        columns = ", ".join(sample)
        raise ConfigError(
            [
                (
                    f"dataset.time={name}",
                    f"there is no column of that name, but {columns} (auto, none)",
                )
            ]
        )
    present = [text for text in sample[name] if text.strip()]
    return TimeColumn(name, dates=not all(map(is_number, present)))


def times_of(file: TableFile, column: TimeColumn) -> NDArray[np.float64]:
    """Read when each row of a file is.

    Seconds since 1970, or the column's numbers; NaN where it does not say.
    """
    if not column.dates:
        return (
            file.read(Request([column.name], numbers={column.name: None}))
            .columns[column.name]
            .values
        )
    read = file.read(Request([column.name], categories=[column.name])).columns[column.name]
    times = moments(read.texts or (), read.values)
    return np.where(read.missing(), np.nan, times)


def in_order(table: Table, file: TableFile, column: TimeColumn) -> Table:
    """Return the table with its rows in the order of time, as `order_of` finds it."""
    times = times_of(file, column)
    if not column.dates and (np.diff(np.sort(times)) == 0).any():
        _refuse_backwards(table, column.name, times)
        return table  # numbers that come again do not say when a row is: a month's, or a year's of several months
    order = order_of(table, column.name, times, column.dates)
    if order is None:
        return table
    columns = {name: _ordered(one, order) for name, one in table.columns.items()}
    return replace(table, columns=columns, where=lambda row: table.where(int(order[row])))


def _refuse_backwards(table: Table, name: str, times: NDArray[np.float64]) -> None:
    """InputError for rows from the newest to the oldest by numbers that come again, as a year does
    for its months.
    """
    steps = np.diff(times)
    if (steps < 0).any() and not (steps > 0).any():
        row = int((steps < 0).argmax())
        raise InputError(
            f"{table.where(row + 1)}: the rows go backwards in time by column '{name}' ({times[row]:g} before "
            f"{times[row + 1]:g}), which does not say the order of all of them: sort the file from the oldest row to the "
            f"newest, or {HELP}"
        )


def time_span(file: TableFile, column: TimeColumn) -> tuple[str, str, str]:
    """Return the first and the last moment of a file, and the order of its rows."""
    times = times_of(file, column)
    steps = np.diff(times)
    if (steps >= 0).all():
        order = "in order" if (steps > 0).all() else "in order, with moments that come again"
    elif not column.dates and (np.diff(np.sort(times)) == 0).any():
        order = "as the rows stand"
    else:
        order = "backwards, sorted" if (steps < 0).all() else "not in order, sorted"
    return _shown(float(times.min()), column.dates), _shown(float(times.max()), column.dates), order


def _ordered(column: Column, order: NDArray[np.int64]) -> Column:
    return replace(column, values=column.values[order])


def order_of(
    table: Table, name: str, times: NDArray[np.float64], written: bool
) -> NDArray[np.int64] | None:
    """Return the rows (N,) in the order of their `times` (N,); None where they are in it.

    Column `name` says the times, which are dates where these are `written`, else numbers. Rows that
    are brought into order, gaps and repeated moments are logged. InputError for a row without
    a time, and for moments that come twice among rows out of order.
    """
    _refuse_absent(table, name, times, written)
    steps = np.diff(times)
    if (steps < 0).any():
        return _sorted(table, name, times, written)
    _tell_of_repeats(table, name, times, written)
    if written:
        _tell_of_gaps(table, name, times)
    return None


def _refuse_absent(table: Table, name: str, times: NDArray[np.float64], written: bool) -> None:
    absent = np.isnan(times)
    if not absent.any():
        return
    what = "a date like the others of the column" if written else "a number"
    raise InputError(
        f"{table.where(int(absent.argmax()))}: column '{name}', which says when each row is, does not have {what} here "
        f"({_such_rows(absent)}): correct or remove the line, or {HELP}"
    )


def _sorted(
    table: Table, name: str, times: NDArray[np.float64], written: bool
) -> NDArray[np.int64]:
    """Return the order of rows that are not in it, and log it."""
    order = np.argsort(times, kind="stable")
    first = int((np.diff(times) < 0).argmax())
    moments = f"{_shown(times[first], written)} before {_shown(times[first + 1], written)}"
    again = np.diff(times[order]) == 0
    if again.any():
        one, other = sorted(order[int(again.argmax()) :][:2].tolist())
        raise InputError(
            f"{table.where(other)}: {_shown(times[other], written)} in column '{name}' repeats that of "
            f"{table.where(one)}, and the rows are not in order ({moments}): keep one series in the file, a row "
            f"for each moment, or {HELP}"
        )
    if (order == np.arange(len(order))[::-1]).all():
        what = "the rows go backwards in time"
    else:
        count = int((np.diff(times) < 0).sum())
        what = f"{count:,} row{' is' if count == 1 else 's are'} not in the order of time"
    log.warning(
        f"{table.where(first + 1)}: {what} by column '{name}' ({moments}): they are sorted by it; {HELP}"
    )
    return order


def _tell_of_repeats(table: Table, name: str, times: NDArray[np.float64], written: bool) -> None:
    again = np.diff(times) == 0
    if again.any():
        row = int(again.argmax()) + 1
        log.warning(
            f"{table.where(row)}: {_shown(times[row], written)} in column '{name}' is repeated "
            f"({_such_rows(again)}): each row counts as a time step of its own"
        )


def _tell_of_gaps(table: Table, name: str, times: NDArray[np.float64]) -> None:
    """Log where a step is longer than the usual one, but for weekends between working days."""
    steps = np.diff(times)
    if len(steps) < 2 or not (usual := float(np.median(steps))) > 0:
        return
    long = steps > MAX_STEP * usual
    if usual == DAY_SECONDS:
        fridays = (times[:-1] // DAY_SECONDS) % 7 == FRIDAY
        long &= ~(fridays & (steps == WEEKEND))
    if long.any():
        row = int(long.argmax())
        gaps = "1 gap" if long.sum() == 1 else f"{int(long.sum()):,} gaps"
        log.warning(
            f"{table.where(row + 1)}: {gaps} by column '{name}', the first from "
            f"{as_date(times[row])} to {as_date(times[row + 1])}: a window takes its rows for equal steps of time"
        )


def _such_rows(found: NDArray[np.bool_]) -> str:
    count = int(found.sum())
    return "1 such row" if count == 1 else f"{count:,} such rows"


def _shown(time: float, written: bool) -> str:
    return as_date(time) if written else f"{time:g}"
