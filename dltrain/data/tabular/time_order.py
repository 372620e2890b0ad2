"""Puts the rows of a series in the order of time, or refuses them with file and line."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dltrain.data.io.dates import date_text, moments
from dltrain.data.tabular.files.table_file import TableFile
from dltrain.data.tabular.table import Column, Request, RowPlaces, Table
from dltrain.data.tabular.time_column import TimeColumn
from dltrain.errors import InputError

log = logging.getLogger("dltrain")
DAY_SECONDS = 86_400
MAX_STEP_RATIO = 1.7  # to the usual step: months have 28 to 31 days, and a longer step is a gap
WEEKEND_SECONDS = 3 * DAY_SECONDS  # from Friday to Monday
FRIDAY = 1  # of (days since 1970) mod 7
HELP = "dataset.time=none takes the rows as they stand"


def times_of(file: TableFile, column: TimeColumn) -> NDArray[np.float64]:
    """Return when each row (N,) of a file is.

    Seconds since 1970, or the column's numbers; NaN for a row that does not say.
    """
    name = column.name
    if not column.dates:
        request = Request([name], numbers={name: None})
        return file.read(request).columns[name].values
    texts = file.read(Request([name], categories=[name])).columns[name]
    times = moments(texts.texts or (), texts.values)
    return np.where(texts.missing(), np.nan, times)


def in_order(table: Table, file: TableFile, column: TimeColumn) -> Table:
    """Return the table with its rows in the order of time, as `order_of` finds it."""
    times = times_of(file, column)
    if not column.dates and has_repeats(times):
        # Repeated numbers do not say when a row is: a month's, or a year's of several months.
        refuse_backwards(table, column.name, times)
        return table
    order = order_of(table, column, times)
    if order is None:
        return table
    columns = {name: ordered(values, order) for name, values in table.columns.items()}
    return replace(table, columns=columns, where=RowPlaces(table.where, order).__getitem__)


def ordered(column: Column, order: NDArray[np.int64]) -> Column:
    """Return a column with its rows in another order."""
    return replace(column, values=column.values[order])


def has_repeats(times: NDArray[np.float64]) -> bool:
    """Return whether some time occurs twice."""
    return bool((np.diff(np.sort(times)) == 0).any())


def refuse_backwards(table: Table, name: str, times: NDArray[np.float64]) -> None:
    """Raise InputError for rows from the newest to the oldest by numbers that repeat.

    A year does so for its months.
    """
    steps = np.diff(times)
    if (steps < 0).any() and not (steps > 0).any():
        row = int((steps < 0).argmax())
        raise InputError(
            f"{table.where(row + 1)}: the rows go backwards in time by column '{name}' "
            f"({times[row]:g} before {times[row + 1]:g}), which does not say the order of all of "
            f"them: sort the file from the oldest row to the newest, or {HELP}"
        )


def time_span(file: TableFile, column: TimeColumn) -> tuple[str, str, str]:
    """Return the first and the last moment of a file, and how its rows are ordered."""
    times = times_of(file, column)
    first, last = time_text(float(times.min()), column), time_text(float(times.max()), column)
    return first, last, describe_order(times, column)


def describe_order(times: NDArray[np.float64], column: TimeColumn) -> str:
    """Return in words how the rows are ordered in the file."""
    steps = np.diff(times)
    if (steps > 0).all():
        return "in order"
    if (steps >= 0).all():
        return "in order, with repeated moments"
    if not column.dates and has_repeats(times):
        return "as the rows stand"
    if (steps < 0).all():
        return "backwards, sorted"
    return "not in order, sorted"


def order_of(
    table: Table, column: TimeColumn, times: NDArray[np.float64]
) -> NDArray[np.int64] | None:
    """Return the rows (N,) in the order of their `times` (N,); None if they are in it.

    Rows that are brought into order, gaps and repeated moments are logged. InputError for a row
    without a time, and for repeated moments among rows out of order.
    """
    refuse_absent(table, column, times)
    steps = np.diff(times)
    if (steps < 0).any():
        return sorted_rows(table, column, times)
    warn_of_repeats(table, column, times)
    if column.dates:
        warn_of_gaps(table, column.name, times)
    return None


def refuse_absent(table: Table, column: TimeColumn, times: NDArray[np.float64]) -> None:
    """Raise InputError for a row without a time."""
    absent = np.isnan(times)
    if not absent.any():
        return
    expected = "a number"
    if column.dates:
        expected = "a date like the others of the column"
    raise InputError(
        f"{table.where(int(absent.argmax()))}: column '{column.name}', which says when each row "
        f"is, does not have {expected} here ({count_rows(absent)}): correct or remove the line, or "
        f"{HELP}"
    )


def sorted_rows(table: Table, column: TimeColumn, times: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the order of rows (N,) that are not in it, and log it."""
    order = np.argsort(times, kind="stable")
    is_back = np.diff(times) < 0
    first = int(is_back.argmax())
    example = f"{time_text(times[first], column)} before {time_text(times[first + 1], column)}"
    refuse_repeats(table, column, times, order, example)
    count = int(is_back.sum())
    if (order == np.arange(len(order))[::-1]).all():
        what = "the rows go backwards in time"
    elif count == 1:
        what = "1 row is not in the order of time"
    else:
        what = f"{count:,} rows are not in the order of time"
    log.warning(
        f"{table.where(first + 1)}: {what} by column '{column.name}' ({example}): they are sorted "
        f"by it; {HELP}"
    )
    return order


def refuse_repeats(
    table: Table,
    column: TimeColumn,
    times: NDArray[np.float64],
    order: NDArray[np.int64],
    example: str,
) -> None:
    """Raise InputError for repeated moments among rows out of order.

    `example` shows two of the rows out of order.
    """
    is_repeated = np.diff(times[order]) == 0
    if not is_repeated.any():
        return
    first, second = sorted(order[int(is_repeated.argmax()) :][:2].tolist())
    raise InputError(
        f"{table.where(second)}: {time_text(times[second], column)} in column '{column.name}' "
        f"repeats that of {table.where(first)}, and the rows are not in order ({example}): keep "
        f"one series in the file, a row for each moment, or {HELP}"
    )


def warn_of_repeats(table: Table, column: TimeColumn, times: NDArray[np.float64]) -> None:
    """Log the first of repeated moments."""
    is_repeated = np.diff(times) == 0
    if is_repeated.any():
        row = int(is_repeated.argmax()) + 1
        log.warning(
            f"{table.where(row)}: {time_text(times[row], column)} in column '{column.name}' is "
            f"repeated ({count_rows(is_repeated)}): each row counts as a time step of its own"
        )


def warn_of_gaps(table: Table, name: str, times: NDArray[np.float64]) -> None:
    """Log where a step is longer than the usual one, except for weekends between working days."""
    steps = np.diff(times)
    if len(steps) < 2:
        return
    usual = float(np.median(steps))
    if usual <= 0:
        return
    is_gap = steps > MAX_STEP_RATIO * usual
    if usual == DAY_SECONDS:
        is_friday = (times[:-1] // DAY_SECONDS) % 7 == FRIDAY
        is_gap &= ~(is_friday & (steps == WEEKEND_SECONDS))
    if is_gap.any():
        row = int(is_gap.argmax())
        gaps = "1 gap" if is_gap.sum() == 1 else f"{int(is_gap.sum()):,} gaps"
        log.warning(
            f"{table.where(row + 1)}: {gaps} by column '{name}', the first from "
            f"{date_text(times[row])} to {date_text(times[row + 1])}: a window takes its rows for "
            "equal steps of time"
        )


def count_rows(mask: NDArray[np.bool_]) -> str:
    """Return how many rows are meant."""
    count = int(mask.sum())
    if count == 1:
        return "1 such row"
    return f"{count:,} such rows"


def time_text(time: float, column: TimeColumn) -> str:
    """Return a moment of a column for a message."""
    if column.dates:
        return date_text(time)
    return f"{time:g}"
