"""Decides how each column of a table is used: as a number, as a category, or not at all."""

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
# A column of texts holds names or free text, not categories, if all its texts are different and
# there are at least MIN_UNIQUE_TEXTS, or if more than MAX_CATEGORY_FRACTION of its values are
# different texts and there are at least MIN_MOSTLY_UNIQUE_TEXTS.
MIN_UNIQUE_TEXTS = 5
MIN_MOSTLY_UNIQUE_TEXTS = 10
MAX_CATEGORY_FRACTION = 0.5
MAX_EXAMPLE_CHARS = 30


@dataclass(frozen=True)
class PlannedColumn:
    """A column, what it looks like, and whether it is used.

    `reason` says why it is left out; for a column of numbers that is used, that it counts the rows.
    """

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
    """Decide how each of the `columns` is used.

    Columns of names, free text and dates are left out unless `categorical` has their names. With
    `leave_empty`, columns without a value in the training `rows` are left out too.

    Raises:
        InputError: every column would be left out.
    """
    planned = [
        plan_column(column, rows, column.name in categorical, leave_empty) for column in columns
    ]
    if planned and not any(column.used for column in planned):
        raise no_column_error(table, planned)
    return planned


def plan_column(
    column: Column, rows: NDArray[np.int64], is_categorical: bool, leave_empty: bool
) -> PlannedColumn:
    """Decide how one column is used; `is_categorical` if the user has chosen it as a category."""
    present = ~column.missing()
    if leave_empty and not present[rows].any():
        return PlannedColumn(column.name, "empty", False, "no value in any training row")
    if column.texts is None:
        reason = ""
        if numbers_every_row(column.values):
            reason = "counts the rows"
        return PlannedColumn(column.name, "number", True, reason)
    if is_categorical:
        return PlannedColumn(column.name, "category", True)
    texts = different_texts(column, present)
    if looks_like_dates(texts):
        return PlannedColumn(column.name, "date", False, "dates")
    values = int(present.sum())
    if are_names_or_free_text(len(texts), values):
        reason = f"{len(texts):,} different texts in {values:,} rows"
        return PlannedColumn(column.name, "text", False, reason)
    return PlannedColumn(column.name, "category", True)


def are_names_or_free_text(num_different: int, num_values: int) -> bool:
    """Return whether a column with this number of different texts has no categories in it."""
    if num_different == num_values and num_values >= MIN_UNIQUE_TEXTS:
        return True
    mostly_different = num_different > MAX_CATEGORY_FRACTION * num_values
    return mostly_different and num_different >= MIN_MOSTLY_UNIQUE_TEXTS


def different_texts(column: Column, present: NDArray[np.bool_]) -> list[str]:
    """Return the different texts of the rows with a value."""
    texts = column.texts or ()
    return [texts[code] for code in np.unique(column.values[present])]


def no_column_error(table: Table, planned: Sequence[PlannedColumn]) -> InputError:
    """Return the error for a table whose columns are all left out."""
    reasons = ", ".join(f"'{column.name}' ({column.reason})" for column in planned)
    hint = ""
    if any(column.kind == "text" for column in planned):
        hint = "; dataset=text_files learns from texts"
    return InputError(
        f"{table.where(0)}: no column is left to predict the target from: {reasons}; "
        f"{setting('dataset.categorical', [planned[0].name])} uses it as a category{hint}"
    )


# Messages


def log_plan(
    table: Table, planned: Sequence[PlannedColumn], embed: bool, categories: Mapping[str, int]
) -> None:
    """Log in one line how each column is used; `categories` has the number of texts of each."""
    row_numbers = [column.name for column in planned if column.used and column.reason]
    unused = [column for column in planned if not column.used]
    parts = [
        describe_numbers(planned),
        describe_categories(categories, embed),
        describe_unused(unused),
        describe_row_numbers(row_numbers),
    ]
    columns = "1 column" if len(planned) == 1 else f"{len(planned):,} columns"
    line = f"{table.name}: {columns} besides the target; {'; '.join(filter(None, parts))}"
    if unused or row_numbers:
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
        line += f"; to use as categories: {setting('dataset.categorical', names)}"
    return line


def describe_row_numbers(names: Sequence[str]) -> str:
    """Return which columns count the rows, and how to leave them out; "" for none."""
    if not names:
        return ""
    verb = "counts" if len(names) == 1 else "count"
    return f"{join_names(names)} {verb} the rows; to leave out: {setting('dataset.ignore', names)}"


def join_names(names: Sequence[str]) -> str:
    """Join the first of many names for a message."""
    return first_names(names, MAX_NAMES_SHOWN)


# The report of `check --data`


def report_columns(
    table: Table,
    planned: Sequence[PlannedColumn],
    targets: Collection[str],
    ignored: Mapping[str, str],
    embed: bool,
) -> ReportTable:
    """Return the table of columns that `check --data` shows.

    `ignored` has the columns that are not read and the setting that names each.
    """
    by_name = {column.name: column for column in planned}
    rows: list[tuple[str | int | float, ...]] = []
    for column in table.columns.values():
        plan = by_name.get(column.name)
        use = "target" if column.name in targets else describe_use(plan, embed)
        rows.append((column.name, kind_of(column, plan), use, *value_statistics(column)))
    rows += [(name, "", f"left out: {key}", "", "", "") for name, key in ignored.items()]
    titles = ("name", "type", "use", "missing", "distinct", "example")
    return ReportTable("columns", titles, rows, f"columns of {table.name}, {len(table):,} rows")


def value_statistics(column: Column) -> tuple[int, int, str]:
    """Return the number of missing values, the number of different values, and an example."""
    is_missing = column.missing()
    if column.written is not None:
        column = column.as_category()  # labels: 007 is not 7
    present = column.values[~is_missing]
    return int(is_missing.sum()), len(np.unique(present)), example_of(column, present)


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
