"""Reads the column that splits the rows of a table."""

from __future__ import annotations

from dltrain.data.tabular.table import Column, Request, TableSource


def read_column(source: TableSource, name: str, as_category: bool = False) -> Column:
    """Return one column of a table, as texts if asked for, else as what it looks like.

    Raises:
        ConfigError: the table has no such column.
    """
    categories = [name] if as_category else []
    return source.read(Request([name], categories=categories)).columns[name]


def count_such_rows(count: int) -> str:
    """Return in words how many rows are meant."""
    if count == 1:
        return "1 such row"
    return f"{count:,} such rows"
