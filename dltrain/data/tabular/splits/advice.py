"""Advice on columns of a table whose rows may belong together."""

from __future__ import annotations

from collections.abc import Collection

import torch

from dltrain.data.held_out.advice import Sides, column_advice, id_columns
from dltrain.data.tabular.encoded_table import EncodedTable
from dltrain.data.tabular.files.table_file import TableFile
from dltrain.data.tabular.splits.columns import read_column
from dltrain.data.tabular.splits.groups import groups_of
from dltrain.data.tabular.table import Request, TableSource


def table_advice(source: TableSource, content: EncodedTable, targets: Collection[str]) -> list[str]:
    """Return a line on each column whose values seem to be groups, with rows on both sides.

    Rows of a separate test table do not count.
    """
    own_rows = content.places[0].rows
    is_training = torch.zeros(len(content.targets), dtype=torch.bool)
    is_training[content.train] = True
    classes = torch.zeros(len(own_rows), dtype=torch.int64)
    sides = Sides(classes, is_training[: len(own_rows)])
    lines = []
    for name in id_columns(column_names(source)):
        if name in targets:
            continue
        column = read_column(source, name, as_category=True)
        line = column_advice(name, groups_of(column, own_rows), sides)
        if line:
            lines.append(line)
    return lines


def column_names(source: TableSource) -> list[str]:
    """Return the names of all columns of a table."""
    if isinstance(source, TableFile):
        return source.names()
    return list(source.read(Request()).columns)
