"""The settings by which the rows of a table are split, and the split that they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from dltrain.data.held_out.rule import check_fold, describe_random_split, held_out_mask
from dltrain.data.tabular.files.table_file import TableFile
from dltrain.data.tabular.splits.groups import read_groups, warn_of_shared
from dltrain.data.tabular.splits.times import read_times, split_by_time, warn_of_early
from dltrain.data.tabular.table import TableSource, column_name
from dltrain.data.tabular.table_rows import TableRows
from dltrain.errors import ConfigError, InputError
from dltrain.shell import setting

SplitKind: TypeAlias = Literal["random", "time"]
SplitRows: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""The rows for training, for validation and for testing."""


@dataclass(frozen=True)
class SplitSettings:
    """The settings of a table's split, named like the keys of the configuration.

    Raises:
        ValueError: They contradict each other; the message says what to type.
    """

    val_fraction: float
    test_fraction: float
    folds: int | None
    fold: int | None
    kind: SplitKind
    group: str | None
    time: str | None
    seed: int

    def __post_init__(self) -> None:
        check_fold(self.folds, self.fold)
        if self.kind == "random":
            if self.time is not None:
                column = setting("dataset.time", self.time)
                raise ValueError(f"{column} orders the rows: add dataset.split=time, or leave it")
            return
        if self.time is None:
            raise ValueError(
                "dataset.split=time needs the column that says when each row is: dataset.time=NAME"
            )
        if self.group is not None:
            raise ValueError(
                "dataset.split=time and dataset.group cannot both hold: the rows of a group may be "
                "early and late. Leave out dataset.group, or set dataset.split=random"
            )

    @property
    def columns(self) -> dict[str, str]:
        """The columns that split the rows, and the setting that names each.

        They are not features unless the user says so.
        """
        named = {self.group: "dataset.group", self.time: "dataset.time"}
        return {name: key for name, key in named.items() if name is not None}

    def check_targets(self, target_names: tuple[str, ...]) -> None:
        """Raise ConfigError if a target splits the rows."""
        for name, key in self.columns.items():
            if name in target_names:
                raise ConfigError([(setting(key, name), "the target cannot split the rows")])

    def split(self, samples: TableRows, source: TableSource, has_test_table: bool) -> SplitRows:
        """Return the usable rows for training, validation and testing.

        None is for testing if the test rows are in a table of their own.

        Raises:
            InputError: A row has no time or group, or no row is left for training.
        """
        test_fraction = 0.0 if has_test_table else self.test_fraction
        if self.time is not None:
            times = read_times(source, self.time, samples)
            rows = split_by_time(times, self.val_fraction, test_fraction, self.folds, self.fold)
        else:
            rows = self.split_at_random(samples, source, test_fraction)
        if not len(rows[0]):
            raise InputError(
                f"{samples.table.where(0)}: {len(samples.targets)} usable rows are too few: no row "
                "is left for training"
            )
        return rows

    def check_test_table(
        self, train: tuple[TableSource, TableRows], test: tuple[TableFile, TableRows]
    ) -> None:
        """Warn of groups in a separate test table that are trained on, and of its early rows.

        Each table is given with its usable rows.
        """
        if self.group is not None:
            warn_of_shared(self.group, train, test)
        if self.time is not None:
            warn_of_early(self.time, train, test)

    def test_rule(self, has_classes: bool) -> str:
        """Describe how the test rows are chosen."""
        if self.time is not None:
            return f"the latest {100 * self.test_fraction:g} % of the rows by {self.time}"
        rows = "the rows"
        if has_classes:
            rows = "the rows of each class"
        group = ""
        if self.group is not None:
            group = setting("dataset.group", self.group)
        return describe_random_split(self.test_fraction, rows, self.seed, group)

    def split_at_random(
        self, samples: TableRows, source: TableSource, test_fraction: float
    ) -> SplitRows:
        """Return a random split, by class, in which groups stay together."""
        targets = samples.targets
        groups, rest_groups = None, None
        if self.group is not None:
            groups = read_groups(source, self.group, samples)
        is_test = held_out_mask(targets, test_fraction, self.seed, groups=groups)
        all_rows = torch.arange(len(targets))
        rest = all_rows[~is_test]
        if groups is not None:
            rest_groups = groups[rest]
        is_val = held_out_mask(
            targets[rest], self.val_fraction, self.seed, self.folds, self.fold, rest_groups
        )
        return rest[~is_val], rest[is_val], all_rows[is_test]


def optional_name(name: object) -> str | None:
    """Return the name of a column as text; None for none."""
    if name is None:
        return None
    return column_name(name)
