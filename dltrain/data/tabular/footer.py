"""Recognizes what stands below the rows of a table: totals, notes, and rows without a value."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from dltrain.data.tabular.table import Column, Table
from dltrain.errors import InputError

TOTAL = re.compile(
    r"((grand |sub[- ]?|sous-)?totals?\b.{0,20}|sum|average|mean|gesamt(summe|ergebnis)?|insgesamt"
    r"|(zwischen)?summe|mittelwert|durchschnitt|somme|moyenne|suma|promedio|media|média|totale"
    r"|somma|soma|totaal|som|totalt|итого|всего|合计|总计|合計|総計):?",
    re.IGNORECASE,
)
MIN_SUMMED_ROWS = 10  # above a row of sums, so that no number is their sum by chance
MIN_FOOTER_COLUMNS = 3  # of a table whose last row may have a value in one of them alone
SUM_TOLERANCE = 1e-9


def refuse_footer(table: Table) -> None:
    """Raise InputError for a last row that is a total of the others, or a note below them."""
    last = len(table) - 1
    if last < 1:
        return
    filled = [column for column in table.columns.values() if not is_missing(column, last)]
    is_wide = len(table.columns) >= MIN_FOOTER_COLUMNS
    if len(filled) == 1 and is_wide and is_only_sparse_row(table):
        raise InputError(
            f"{table.where(last)}: the last row has a value in column '{filled[0].name}' only, "
            "like a footer: cut it off"
        )
    for column in filled:
        total = total_in(column)
        if total:
            raise InputError(
                f"{table.where(last)}: the last row looks like the total of the others "
                f"({total} in column '{column.name}'): cut it off"
            )


def is_missing(column: Column, row: int) -> bool:
    """Return whether a row has no value in a column."""
    value = column.values[row]
    if column.texts is None:
        return bool(np.isnan(value))
    return value < 0 or column.means_missing(column.texts[int(value)])


def is_only_sparse_row(table: Table) -> bool:
    """Return whether only one row has a value in at most one column."""
    counts = np.zeros(len(table), dtype=np.int64)
    for column in table.columns.values():
        counts += ~column.missing()
    return int((counts <= 1).sum()) == 1


def total_in(column: Column) -> str:
    """Return the last value of a column if it looks like a total of the others, else ""."""
    last = column.values[-1]
    if column.texts is None:
        if is_sum(column.values):
            return f"{last:.12g}"
        return ""
    text = column.texts[int(last)].strip()
    is_unique = (column.values == last).sum() == 1
    if is_unique and TOTAL.fullmatch(text):
        return repr(text)
    return ""


def is_sum(values: NDArray[np.float64]) -> bool:
    """Return whether the last of the `values` (N,) is the sum of the others, most of them not 0."""
    others = values[:-1][~np.isnan(values[:-1])]
    if len(others) < MIN_SUMMED_ROWS or 2 * np.count_nonzero(others) < len(others):
        return False
    total = float(others.sum())
    is_large = abs(total) > 2 * np.abs(others).max()
    return bool(is_large and np.isclose(values[-1], total, rtol=SUM_TOLERANCE, atol=0))


def missing_to_the_end(table: Table, absent: NDArray[np.bool_]) -> str:
    """Return a note that the rows without a value are the last ones; "" if they are not.

    `absent` (N,) is true for rows without a value.
    """
    count = int(absent.sum())
    if not count or count == len(absent) or not absent[-count:].all():
        return ""
    rows = "1 row" if count == 1 else f"{count:,} rows"
    return f" from here to the end ({rows}, the last is {table.where(len(absent) - 1)})"
