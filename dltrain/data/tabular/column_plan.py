"""Decides what is done with each column of a table: number, category, or left out."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dltrain.data.io.dates import looks_like_dates
from dltrain.data.tabular.row_numbers import numbers_every_row
from dltrain.data.tabular.table import Column, Table
from dltrain.errors import InputError, first_names
from dltrain.shell import setting
from dltrain.types import ReportTable

log = logging.getLogger("dltrain")

Kind = Literal["number", "category", "text", "date", "empty"]
MIN_NAMES = 5  # different texts, one in each row, that are names rather than categories
MIN_MOSTLY_DIFFERENT = 10  # different texts, in more than half of the rows, that are
MAX_SHARE = 0.5  # of a category's values that are different ones
MAX_SHOWN = 20  # names of columns in a line
MAX_EXAMPLE_CHARS = 30
TOTAL = re.compile(
    r"((grand |sub[- ]?|sous-)?totals?\b.{0,20}|sum|average|mean|gesamt(summe|ergebnis)?|insgesamt|(zwischen)?summe"
    r"|mittelwert|durchschnitt|somme|moyenne|suma|promedio|media|média|totale|somma|soma|totaal|som|totalt"
    r"|итого|всего|合计|总计|合計|総計):?",
    re.IGNORECASE,
)
MIN_SUMMED_ROWS = 10  # above a row of sums, so that no number is their sum by chance
MIN_FOOTER_COLUMNS = 3  # of a table whose last row may have a value in one of them alone


@dataclass(frozen=True)
class PlannedColumn:
    """A column, what it looks like, whether it is used, and why not."""

    name: str
    kind: Kind
    used: bool
    why: str = ""


def plan_columns(
    table: Table,
    columns: Sequence[Column],
    rows: NDArray[np.int64],
    categorical: Collection[str],
    leave_empty: bool,
) -> list[PlannedColumn]:
    """Decide what is done with each of the `columns`, by its values in the training `rows`.

    Columns of names, free text and dates are left out, unless they are named among the
    `categorical` ones; with `leave_empty` so are columns without a value. InputError where no
    column is left.
    """
    planned = [
        planned_column(column, rows, column.name in categorical, leave_empty) for column in columns
    ]
    if planned and not any(column.used for column in planned):
        reasons = ", ".join(f"'{column.name}' ({column.why})" for column in planned)
        first = planned[0].name
        texts = (
            "; dataset=text_files learns from texts"
            if any(column.kind == "text" for column in planned)
            else ""
        )
        raise InputError(
            f"{table.where(0)}: no column is left to predict the target from: {reasons}; "
            f"{setting('dataset.categorical', [first])} takes it in as a category{texts}"
        )
    return planned


def planned_column(
    column: Column, rows: NDArray[np.int64], is_chosen: bool, leave_empty: bool
) -> PlannedColumn:
    """Decide what is done with one column; `is_chosen`: the user takes it for a category."""
    present = ~column.missing()
    if leave_empty and not present[rows].any():
        return PlannedColumn(column.name, "empty", False, "no value in any training row")
    if column.texts is None:
        why = "counts the rows" if numbers_every_row(column.values) else ""
        return PlannedColumn(column.name, "number", True, why)
    if is_chosen:
        return PlannedColumn(column.name, "category", True)
    texts = different_texts(column, present)
    if looks_like_dates(texts):
        return PlannedColumn(column.name, "date", False, "dates")
    values = int(present.sum())
    if _are_names(len(texts), values):
        return PlannedColumn(
            column.name, "text", False, f"{len(texts):,} different texts in {values:,} rows"
        )
    return PlannedColumn(column.name, "category", True)


def _are_names(different: int, values: int) -> bool:
    """Tell whether so many different texts among so many values are names or free text."""
    if different == values >= MIN_NAMES:
        return True
    return different >= MIN_MOSTLY_DIFFERENT and different > MAX_SHARE * values


def different_texts(column: Column, present: NDArray[np.bool_]) -> list[str]:
    """Return the different texts that the rows with a value have."""
    texts = column.texts or ()
    found = np.unique(column.values[present])
    return [texts[code] for code in found]


def tell(
    table: Table, planned: Sequence[PlannedColumn], embed: bool, texts: dict[str, int]
) -> None:
    """Say in one line what is done with each column; `texts` counts those of each category."""
    numbers = [column.name for column in planned if column.used and column.kind == "number"]
    categories = [f"{name} ({count:,})" for name, count in texts.items()]
    left = [f"{column.name} ({column.why})" for column in planned if not column.used]
    counting = [column.name for column in planned if column.used and column.why]
    parts = []
    if numbers:
        parts.append(f"{len(numbers):,} as numbers: {listed(numbers)}")
    if categories:
        how = "a vector for each value" if embed else "one-hot"
        parts.append(f"{len(categories):,} as categories, {how}: {listed(categories)}")
    if left:
        names = [column.name for column in planned if not column.used and column.kind != "empty"]
        key = (
            f"; {setting('dataset.categorical', names)} takes them in as categories"
            if names
            else ""
        )
        parts.append(f"{len(left):,} left out: {listed(left)}{key}")
    if counting:
        parts.append(
            f"{listed(counting)} counts the rows: {setting('dataset.ignore', counting)} leaves it out"
        )
    say = log.warning if left or counting else log.info
    columns = "1 column" if len(planned) == 1 else f"{len(planned):,} columns"
    say(f"{table.name}: {columns} besides the target; {'; '.join(parts)}")


def listed(names: Sequence[str]) -> str:
    """Join names for a line; of very many the first."""
    return first_names(names, MAX_SHOWN)


def refuse_footer(table: Table) -> None:
    """Raise InputError for a last row that is the total of the others, or a note below the table."""
    last = len(table) - 1
    if last < 1:
        return
    present = [column for column in table.columns.values() if not _is_missing(column, last)]
    if len(present) == 1 and len(table.columns) >= MIN_FOOTER_COLUMNS and _is_only_such_row(table):
        raise InputError(
            f"{table.where(last)}: the last row has a value in column '{present[0].name}' only, "
            "like a footer: cut it off"
        )
    for column in present:
        if column.texts is None:
            total = f"{column.values[last]:.12g}" if _is_sum(column.values) else ""
        else:
            text = column.texts[int(column.values[last])].strip()
            is_only = (column.values == column.values[last]).sum() == 1
            total = repr(text) if is_only and TOTAL.fullmatch(text) else ""
        if total:
            raise InputError(
                f"{table.where(last)}: the last row looks like the total of the others "
                f"({total} in column '{column.name}'): cut it off"
            )


def _is_sum(values: NDArray[np.float64]) -> bool:
    """Tell whether the last of the `values` (N,) is the sum of the others, most of which are not 0."""
    others = values[:-1][~np.isnan(values[:-1])]
    if len(others) < MIN_SUMMED_ROWS or 2 * np.count_nonzero(others) < len(others):
        return False
    total = float(others.sum())
    return bool(
        np.isclose(values[-1], total, rtol=1e-9, atol=0) and abs(total) > 2 * np.abs(others).max()
    )


def _is_only_such_row(table: Table) -> bool:
    """Tell whether no row but the last has a value in one column alone."""
    counts = np.zeros(len(table), dtype=np.int64)
    for column in table.columns.values():
        counts += ~column.missing()
    return int((counts <= 1).sum()) == 1


def _is_missing(column: Column, row: int) -> bool:
    if column.texts is None:
        return bool(np.isnan(column.values[row]))
    return column.values[row] < 0 or column.means_missing(column.texts[int(column.values[row])])


def end_of(table: Table, absent: NDArray[np.bool_]) -> str:
    """Say that the rows without a value are all at the end of the table; "" where they are not."""
    count = int(absent.sum())
    if not count or count == len(absent) or not absent[-count:].all():
        return ""
    return f" from here to the end ({count:,} row{'s' * (count > 1)}, the last is {table.where(len(absent) - 1)})"


def listing(
    table: Table,
    planned: Sequence[PlannedColumn],
    targets: Collection[str],
    ignored: Collection[str],
    embed: bool,
) -> ReportTable:
    """Return the table of columns that `check` shows."""
    by_name = {column.name: column for column in planned}
    rows: list[tuple[str | int | float, ...]] = []
    for column in table.columns.values():
        known = by_name.get(column.name)
        kind = known.kind if known else ("number" if column.texts is None else "category")
        use = "target" if column.name in targets else _use(known, embed)
        written = (
            column.as_category() if column.written is not None else column
        )  # labels: 007 is not 7
        present = written.values[~column.missing()]
        missing = len(column.values) - len(present)
        rows.append(
            (column.name, kind, use, missing, len(np.unique(present)), example(written, present))
        )
    rows += [(name, "", "left out: dataset.ignore", "", "", "") for name in ignored]
    titles = ("name", "type", "use", "missing", "distinct", "example")
    return ReportTable("columns", titles, rows, f"columns of {table.name}, {len(table):,} rows")


def example(column: Column, present: NDArray[Any]) -> str:
    """Return the first value of a column, shortened."""
    if not len(present):
        return ""
    text = f"{present[0]:g}" if column.texts is None else column.texts[int(present[0])].strip()
    return text if len(text) <= MAX_EXAMPLE_CHARS else f"{text[: MAX_EXAMPLE_CHARS - 3]}..."


def _use(column: PlannedColumn | None, embed: bool) -> str:
    if column is None:
        return "left out"
    if not column.used:
        return f"left out: {column.why}"
    if column.kind == "number":
        return f"number, {column.why}" if column.why else "number"
    return "embedded" if embed else "one-hot"
