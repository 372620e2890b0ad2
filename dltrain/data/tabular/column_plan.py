"""Decides what is done with each column of a table: number, category, or left out."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dltrain.data.io.dates import looks_like_dates
from dltrain.data.tabular.files.row_numbers import numbers_every_row
from dltrain.data.tabular.table import MAX_NAMES_SHOWN, Column, Table
from dltrain.errors import InputError, first_names
from dltrain.shell import setting
from dltrain.types import ReportTable

log = logging.getLogger("dltrain")

ColumnKind = Literal["number", "category", "text", "date", "empty"]
MIN_NAMES = 5  # different texts, one in each row, that are names rather than categories
MIN_MOSTLY_DIFFERENT = 10  # different texts, in more than half of the rows, that are names too
MAX_DISTINCT_FRACTION = 0.5  # of a category's values that are different ones
MAX_EXAMPLE_CHARS = 30


@dataclass(frozen=True)
class PlannedColumn:
    """A column, what it looks like, whether it is used, and the reason."""

    name: str
    kind: ColumnKind
    used: bool
    reason: str = ""


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
        plan_column(column, rows, column.name in categorical, leave_empty) for column in columns
    ]
    if planned and not any(column.used for column in planned):
        raise no_column_error(table, planned)
    return planned


def plan_column(
    column: Column, rows: NDArray[np.int64], is_chosen: bool, leave_empty: bool
) -> PlannedColumn:
    """Decide what is done with one column; `is_chosen`: the user takes it for a category."""
    present = ~column.missing()
    if leave_empty and not present[rows].any():
        return PlannedColumn(column.name, "empty", False, "no value in any training row")
    if column.texts is None:
        reason = ""
        if numbers_every_row(column.values):
            reason = "counts the rows"
        return PlannedColumn(column.name, "number", True, reason)
    if is_chosen:
        return PlannedColumn(column.name, "category", True)
    texts = different_texts(column, present)
    if looks_like_dates(texts):
        return PlannedColumn(column.name, "date", False, "dates")
    values = int(present.sum())
    if are_names(len(texts), values):
        reason = f"{len(texts):,} different texts in {values:,} rows"
        return PlannedColumn(column.name, "text", False, reason)
    return PlannedColumn(column.name, "category", True)


def are_names(different: int, values: int) -> bool:
    """Return whether so many different texts among so many values are names or free text."""
    if different == values >= MIN_NAMES:
        return True
    return different >= MIN_MOSTLY_DIFFERENT and different > MAX_DISTINCT_FRACTION * values


def different_texts(column: Column, present: NDArray[np.bool_]) -> list[str]:
    """Return the different texts of the rows with a value."""
    texts = column.texts or ()
    return [texts[code] for code in np.unique(column.values[present])]


def no_column_error(table: Table, planned: Sequence[PlannedColumn]) -> InputError:
    """Return the error for a table of which every column is left out."""
    reasons = ", ".join(f"'{column.name}' ({column.reason})" for column in planned)
    hint = ""
    if any(column.kind == "text" for column in planned):
        hint = "; dataset=text_files learns from texts"
    return InputError(
        f"{table.where(0)}: no column is left to predict the target from: {reasons}; "
        f"{setting('dataset.categorical', [planned[0].name])} takes it in as a category{hint}"
    )


# Messages


def log_plan(
    table: Table, planned: Sequence[PlannedColumn], embed: bool, categories: Mapping[str, int]
) -> None:
    """Log in one line what is done with each column; `categories` counts the texts of each."""
    counting = [column.name for column in planned if column.used and column.reason]
    unused = [column for column in planned if not column.used]
    parts = [
        describe_numbers(planned),
        describe_categories(categories, embed),
        describe_unused(unused),
        describe_counting(counting),
    ]
    columns = "1 column" if len(planned) == 1 else f"{len(planned):,} columns"
    line = f"{table.name}: {columns} besides the target; {'; '.join(filter(None, parts))}"
    if unused or counting:
        log.warning(line)
    else:
        log.info(line)


def describe_numbers(planned: Sequence[PlannedColumn]) -> str:
    """Return which columns are numbers, "" for none."""
    names = [column.name for column in planned if column.used and column.kind == "number"]
    if names:
        return f"{len(names):,} as numbers: {join_names(names)}"
    return ""


def describe_categories(categories: Mapping[str, int], embed: bool) -> str:
    """Return which columns are categories, "" for none."""
    if not categories:
        return ""
    how = "one-hot"
    if embed:
        how = "a vector for each value"
    names = [f"{name} ({count:,})" for name, count in categories.items()]
    return f"{len(names):,} as categories, {how}: {join_names(names)}"


def describe_unused(unused: Sequence[PlannedColumn]) -> str:
    """Return which columns are left out, and how to use them; "" for none."""
    if not unused:
        return ""
    reasons = join_names([f"{column.name} ({column.reason})" for column in unused])
    line = f"{len(unused):,} left out: {reasons}"
    names = [column.name for column in unused if column.kind != "empty"]
    if names:
        line += f"; {setting('dataset.categorical', names)} takes them in as categories"
    return line


def describe_counting(names: Sequence[str]) -> str:
    """Return which columns count the rows, and how to leave them out; "" for none."""
    if not names:
        return ""
    return f"{join_names(names)} counts the rows: {setting('dataset.ignore', names)} leaves it out"


def join_names(names: Sequence[str]) -> str:
    """Join the first of many names for a message."""
    return first_names(names, MAX_NAMES_SHOWN)


# The report of `check --data`


def report_columns(
    table: Table,
    planned: Sequence[PlannedColumn],
    targets: Collection[str],
    ignored: Collection[str],
    embed: bool,
) -> ReportTable:
    """Return the table of columns that `check --data` shows."""
    by_name = {column.name: column for column in planned}
    rows: list[tuple[str | int | float, ...]] = []
    for column in table.columns.values():
        plan = by_name.get(column.name)
        use = "target" if column.name in targets else describe_use(plan, embed)
        values = column
        if column.written is not None:
            values = column.as_category()  # labels: 007 is not 7
        present = values.values[~column.missing()]
        missing = len(column.values) - len(present)
        distinct = len(np.unique(present))
        example = example_of(values, present)
        rows.append((column.name, kind_of(column, plan), use, missing, distinct, example))
    rows += [(name, "", "left out: dataset.ignore", "", "", "") for name in ignored]
    titles = ("name", "type", "use", "missing", "distinct", "example")
    return ReportTable("columns", titles, rows, f"columns of {table.name}, {len(table):,} rows")


def kind_of(column: Column, plan: PlannedColumn | None) -> str:
    """Return what a column looks like."""
    if plan is not None:
        return plan.kind
    if column.texts is None:
        return "number"
    return "category"


def describe_use(plan: PlannedColumn | None, embed: bool) -> str:
    """Return what a column is used for."""
    if plan is None:
        return "left out"
    if not plan.used:
        return f"left out: {plan.reason}"
    if plan.kind == "number":
        if plan.reason:
            return f"number, {plan.reason}"
        return "number"
    if embed:
        return "embedded"
    return "one-hot"


def example_of(column: Column, present: NDArray[Any]) -> str:
    """Return the first value of a column, shortened."""
    if not len(present):
        return ""
    text = f"{present[0]:g}" if column.texts is None else column.texts[int(present[0])].strip()
    if len(text) <= MAX_EXAMPLE_CHARS:
        return text
    return f"{text[: MAX_EXAMPLE_CHARS - 3]}..."
