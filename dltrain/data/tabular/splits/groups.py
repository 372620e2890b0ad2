"""The group of each row of a table, by a column such as patient."""

from __future__ import annotations

import numpy as np
import torch

from dltrain.data.held_out.groups import Groups
from dltrain.data.io.values import value_key
from dltrain.data.tabular.files.table_file import TableFile
from dltrain.data.tabular.splits.columns import count_such_rows, read_column
from dltrain.data.tabular.table import Column, TableSource
from dltrain.data.tabular.table_rows import Rows, TableRows
from dltrain.errors import InputError
from dltrain.shell import setting


def read_groups(source: TableSource, name: str, samples: TableRows) -> Groups:
    """Return the groups of the usable rows of a table.

    Raises:
        ConfigError: the table has no such column.
        InputError: a row has no group; the message names file and line.
    """
    column = read_column(source, name, as_category=True)
    absent = column.missing()[samples.rows]
    if absent.any():
        row = int(samples.rows[absent.argmax()])
        count = count_such_rows(int(absent.sum()))
        raise InputError(
            f"{samples.table.where(row)}: column '{name}' is empty ({count}), and "
            f"{setting('dataset.group', name)} needs the group of every row: fill it in or remove "
            "the row"
        )
    return groups_of(column, samples.rows)


def groups_of(column: Column, rows: Rows) -> Groups:
    """Return the groups of some rows by a column of texts, of which 3 and 3.0 are the same.

    Rows without a value are in one group, "".
    """
    texts = column.texts or ()
    numbers: dict[str, int] = {}
    of_text = [numbers.setdefault(value_key(text), len(numbers)) for text in texts]
    of_text.append(numbers.setdefault("", len(numbers)))  # for -1
    codes = torch.from_numpy(np.array(of_text, dtype=np.int64)[column.values[rows]])
    return Groups(codes, list(numbers), setting("dataset.group", column.name))


def warn_of_shared(
    name: str, train: tuple[TableSource, TableRows], test: tuple[TableFile, TableRows]
) -> None:
    """Warn of groups that a separate test table shares with the training table.

    Nothing is said if the test table does not have the column.
    """
    test_source, test_samples = test
    if name not in test_source.names():
        return
    column = read_column(test_source, name, as_category=True)
    groups = read_groups(train[0], name, train[1])
    others = groups_of(column, test_samples.rows)
    groups.warn_of_shared(others, "training", "test")
