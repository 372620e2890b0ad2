"""Selects the rows of a table that have a target and the numbers that they need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dltrain.data.tabular import labels
from dltrain.data.tabular.encoding import Missing
from dltrain.data.tabular.footer import missing_to_the_end
from dltrain.data.tabular.table import RowPlaces, Table
from dltrain.errors import InputError
from dltrain.shell import setting

Rows: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class TableRows:
    """The usable rows of a table, and their targets.

    Targets are class numbers (N,), or numbers (N, T) in the data's unit.
    """

    table: Table
    rows: Rows
    targets: Tensor

    @property
    def places(self) -> RowPlaces:
        """The file and line of each row."""
        return RowPlaces(self.table.where, self.rows)


@dataclass(frozen=True)
class RowSelection:
    """The rules by which rows are used: they need the targets, and numbers unless these are filled.

    `missing` is the setting dataset.missing. `labels_by_number` compares labels that are numbers as
    such, as runs of older versions did.
    """

    target_names: tuple[str, ...]
    missing: Missing
    labels_by_number: bool

    def select(self, table: Table, class_names: tuple[str, ...]) -> TableRows:
        """Return the rows of a table that are used and their targets.

        InputError for a row without a target or a number, unless such rows are dropped or numbers
        filled, and for a label that is not one of the classes.
        """
        targets = [table.columns[name] for name in self.target_names]
        absent = {column.name: column.missing() for column in table.columns.values()}
        if not class_names:
            rows = self.complete_rows(table, absent)
            values = np.stack([column.values[rows] for column in targets], axis=1)
            return TableRows(table, rows, torch.from_numpy(values))
        target = targets[0]
        numbers, label_column = labels.class_numbers(target, class_names, self.labels_by_number)
        absent[target.name] = labels.without_label(target, numbers)
        rows = self.complete_rows(table, absent)
        is_unknown = numbers[rows] < 0
        if is_unknown.any():
            row = int(rows[int(is_unknown.argmax())])
            text = (label_column.texts or ())[int(label_column.values[row])]
            raise InputError(
                f"{table.where(row)}: '{text}' is not one of the {len(class_names)} known classes"
            )
        return TableRows(table, rows, torch.from_numpy(numbers[rows].astype(np.int64)))

    def complete_rows(self, table: Table, absent: Mapping[str, NDArray[np.bool_]]) -> Rows:
        """Return the rows without `absent` values in the columns that need one.

        InputError for a row without a target or a number, unless such rows are dropped or numbers
        filled.
        """
        is_complete = np.ones(len(table), dtype=bool)
        required = self.required_columns(table)
        for name in required:
            is_complete &= ~absent[name]
            if self.missing != "drop" and absent[name].any():
                raise self.missing_value_error(table, name, absent[name])
        rows = np.flatnonzero(is_complete)
        if not len(rows):
            raise InputError(
                f"{table.where(0)}: from here on no row is complete: nothing is left after "
                "dataset.missing=drop"
            )
        return rows

    def required_columns(self, table: Table) -> list[str]:
        """Return the columns in which no value may be missing, in the table's order.

        They are the targets, and numbers that are not filled.
        """
        names = set(self.target_names)
        if self.missing in ("error", "drop"):
            names |= {name for name, column in table.columns.items() if column.texts is None}
        return [name for name in table.columns if name in names]

    def missing_value_error(self, table: Table, name: str, absent: NDArray[np.bool_]) -> InputError:
        """Return the error for the rows in which a target or a number is `absent` (N,)."""
        end = missing_to_the_end(table, absent)
        where = table.where(int(absent.argmax()))
        if name not in self.target_names:
            ignore = setting("dataset.ignore", [name])
            hint = f"dataset.missing=auto (mean, median, zero, drop), or {ignore}"
            return InputError(f"{where}: column '{name}' is empty{end}: {hint}")
        hint = "dataset.missing=drop leaves such rows out"
        if end:
            hint += ", or cut them off, into a file of their own if they are to be predicted"
        column = table.columns[name]
        if column.texts is not None:
            hint += labels.as_class_hint(column)
        return InputError(f"{where}: the target '{name}' is empty{end}: {hint}")
