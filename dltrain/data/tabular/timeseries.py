"""A series of numbers in the order of time.

Its windows are inputs, and what follows each is the target.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from dltrain.data.dataset import Dataset, Part
from dltrain.data.fake import Fake
from dltrain.data.io.dates import looks_like_dates
from dltrain.data.raw_batches import windows_of
from dltrain.data.split import Split
from dltrain.data.tabular.encoding import MAX_DEVIATION, mean_and_std
from dltrain.data.tabular.files.open import open_table
from dltrain.data.tabular.files.settings import (
    CsvSettings,
    DecimalMark,
    MissingValue,
    ThousandsMark,
)
from dltrain.data.tabular.files.table_file import TableFile
from dltrain.data.tabular.series import (
    LearnedSeries,
    StandardizedSeries,
    missing_value,
    parse_series,
    warn_of_flat_part,
)
from dltrain.data.tabular.table import Column, Request, Table, TableSource, column_name
from dltrain.data.tabular.time_column import (
    TimeColumn,
    are_numbers,
    find_time_column,
    named_time_column,
    not_empty,
)
from dltrain.data.tabular.time_order import in_order, time_span
from dltrain.errors import ConfigError, InputError
from dltrain.types import BatchSize, ColumnName, Fraction, PositiveInt, ReportTable, Sample, Spec

log = logging.getLogger("dltrain")
STAND_IN_WINDOWS = (80, 20, 20)  # of each split, where the series is not read
Borders: TypeAlias = tuple[int, int, int, int]  # where the parts begin, and the series ends


class TimeSeries(Dataset[StandardizedSeries, LearnedSeries, Split]):
    """A series of numbers, a row a time step.

    It is the `column` of the file `path` (null: its only one), or the series of a `source`. An
    input is `window` values in a row, (window, 1), its targets all of the `horizon` values after
    them, (horizon,), by the names t+1, t+2, ... The first part of the series is for training, then
    `val_fraction` of it for validation and the last `test_fraction` for testing: no window with its
    targets reaches over a border, so that no training sees a value of a later part. All parts are
    standardized by the training part. Of a series other than the one a run was trained on, all is
    for testing. Windows are views of the one series, copied a batch at a time.

    Rows are put into the order of the column `time`: "auto" is one of dates, or of numbers with a
    name such as t or year, if there is one; "none" takes the rows as they stand. What is changed is
    logged.

    InputError with file and line for a value that is missing, and for a part too short for a window
    with its targets.
    """

    def __init__(  # noqa: PLR0913 - the keys of the configuration
        self,
        path: str | None = None,
        column: ColumnName | None = None,
        time: ColumnName = "auto",
        window: PositiveInt = 24,
        horizon: PositiveInt = 1,
        delimiter: str | None = None,
        encoding: str | None = None,
        header: bool | None = None,
        decimal: DecimalMark | None = None,
        thousands: ThousandsMark | None = None,
        missing_values: tuple[MissingValue, ...] = (),
        batch_size: BatchSize = 64,
        eval_batch_size: PositiveInt = 1024,
        val_fraction: Fraction = 0.15,
        test_fraction: Fraction = 0.15,
        epochs: PositiveInt = 20,
        source: TableSource | None = None,
        seed: int = 0,
    ) -> None:
        if val_fraction + test_fraction >= 1:
            raise ValueError(
                "dataset.val_fraction and dataset.test_fraction leave nothing to train on: lower "
                "them"
            )
        super().__init__(batch_size, eval_batch_size, seed)
        self.csv = CsvSettings(delimiter, encoding, header, decimal, thousands, missing_values)
        self.source = source
        if path is not None:
            self.source = open_table(path, self.csv, "dataset.path")
        self.column_name = None if column is None else column_name(column)
        self.time = column_name(time)
        self.window = window
        self.horizon = horizon
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self.epochs = epochs

    @property
    def spec(self) -> Spec:
        """The spec of the restored run or of the series, which is read for it.

        A stand-in if no series is named.
        """
        train, val, test = self.window_counts
        mean, std = self.scale
        return Spec(
            input_shape=(self.window, 1),
            class_names=(),
            train_samples=train + val,
            test_samples=test,
            target_names=tuple(f"t+{step}" for step in range(1, self.horizon + 1)),
            target_mean=(mean,) * self.horizon,
            target_std=(std,) * self.horizon,
        )

    @property
    def spec_is_read(self) -> bool:
        """True where `spec` reads the series."""
        return self.source is not None and self.learned is None

    @property
    def window_counts(self) -> tuple[int, int, int]:
        """The number of windows of each split."""
        if self.source is None or not self.is_training:
            return STAND_IN_WINDOWS
        return len(self.stored.train), len(self.stored.val), len(self.stored.test)

    @property
    def scale(self) -> tuple[float, float]:
        """Mean and standard deviation of the training part."""
        if self.learned is not None:
            return self.learned.mean, self.learned.std
        if self.source is None:
            return 0.0, 1.0
        return self.stored.mean, self.stored.std

    # Reading

    def read(self) -> StandardizedSeries:
        """Read the series, split it and standardize it by its training part."""
        if self.source is None:
            hint = "name the file of the series: dataset.path=FILE.csv or .parquet"
            raise ConfigError([("dataset.path=null", hint)])
        table = self.read_table(self.source)
        column = self.series_of(table)
        values = column.values
        absent = column.missing()
        if absent.any():
            raise InputError(missing_value(table, column.name, absent))
        borders = self.borders(len(values), table.digest)
        train, val, test = [self.windows(table, *border) for border in pairwise(borders)]
        warn_of_flat_part(table, "validation", values, borders[1], borders[2])
        warn_of_flat_part(table, "test", values, borders[2], borders[3])
        mean, std = self.learned_or_fitted_scale(table, column, borders)
        standardized = np.clip((values - mean) / std, -MAX_DEVIATION, MAX_DEVIATION)
        return StandardizedSeries(
            values=torch.from_numpy(standardized.astype(np.float32)),
            mean=mean,
            std=std,
            format=column.number_format,
            column=column.name,
            train=train,
            val=val,
            test=test,
            digest=table.digest,
            where=table.where,
        )

    def read_table(self, source: TableSource) -> Table:
        """Read the table with the series, with its rows in the order of time."""
        table = source.read(self.request)
        if not isinstance(source, TableFile):
            return table
        time = self.time_column(source, self.series_of(table).name)
        if time:
            return in_order(table, source, time)
        return table

    @property
    def request(self) -> Request:
        """The column to read, in the format in which the restored run read its own."""
        known = None if self.learned is None else self.learned.format
        if self.column_name is None:
            return Request(other_format=known)
        return Request([self.column_name], numbers={self.column_name: known})

    def series_of(self, table: Table) -> Column:
        """Return the series; ConfigError if none is named and the table has several columns."""
        if self.column_name is None and len(table.columns) > 1:
            columns = ", ".join(table.columns)
            hint = f"name the series: {table.name} has the columns {columns}"
            raise ConfigError([("dataset.column=null", hint)])
        column = table.columns[self.column_name or next(iter(table.columns))]
        if column.texts is not None:
            raise InputError(
                f"{table.where(0)}: column '{column.name}' is text: a series is of numbers"
            )
        return column

    def time_column(self, file: TableFile, series: str) -> TimeColumn | None:
        """Return the column that orders the rows, None if they stand as they are.

        It is the run's, the one that is named, or one that looks like it.
        """
        if self.time == "none":
            return None
        sample = file.sample()
        if self.learned is not None:
            return self.learned_time_column(file, list(sample))
        if self.time == "auto":
            return find_time_column(sample, series)
        return named_time_column(sample, self.time)

    def learned_time_column(self, file: TableFile, columns: list[str]) -> TimeColumn | None:
        """Return the column that ordered the rows of the training series, if this file has it."""
        time = None if self.learned is None else self.learned.time
        if time is None or time.name in columns:
            return time
        log.warning(
            f"{file.path}: there is no column '{time.name}': the rows are taken as they stand"
        )
        return None

    def borders(self, length: int, digest: str) -> Borders:
        """Return where the training, validation and test part of a series begin, and its length."""
        if self.is_other_series(digest):
            return 0, 0, 0, length
        test = round(self.test_fraction * length)
        val = round(self.val_fraction * length)
        return 0, length - val - test, length - test, length

    def is_other_series(self, digest: str) -> bool:
        """Return whether a series is another than the one that a finished run was trained on."""
        if self.learned is None or self.is_training:
            return False
        return self.learned.digest != digest

    def windows(self, table: Table, start: int, end: int) -> Tensor:
        """Return where the windows in start..end begin; InputError if none has room."""
        count = end - start - self.window - self.horizon + 1
        if end > start and count < 1:
            raise InputError(
                f"{table.where(start)}: from here on {end - start} values are one part of the "
                f"series, too few for dataset.window={self.window} and "
                f"dataset.horizon={self.horizon}"
            )
        return torch.arange(start, start + max(0, count))

    def learned_or_fitted_scale(
        self, table: Table, column: Column, borders: Borders
    ) -> tuple[float, float]:
        """Return mean and standard deviation: the run's, or those of the training part.

        InputError for a series that does not change.
        """
        if self.learned is not None:
            return self.learned.mean, self.learned.std
        values = column.values
        if (values == values[0]).all():
            raise InputError(
                f"{table.where(0)}: from here on column '{column.name}' is {values[0]:g}: nothing "
                "to learn"
            )
        return mean_and_std(values[: borders[1]])

    # The other methods of a data set

    @cached_property
    def tensors(self) -> tuple[Tensor, Tensor]:
        """Views of the series: every window (N, window, 1), and what follows it (N, horizon)."""
        views = self.stored.values.to(self.device).unfold(0, self.window + self.horizon, 1)
        return views[:, : self.window].unsqueeze(2), views[:, self.window :]

    def make_split(self, part: Part, batch_size: BatchSize, seed: int | None) -> Split:
        """Return the batches of one split."""
        starts = {"train": self.stored.train, "val": self.stored.val, "test": self.stored.test}
        return Split(*self.tensors, starts[part], self.spec, batch_size, seed)

    def row_names(self, part: Part) -> Callable[[int], str]:
        """Return the function that names a window by the place of the first value after it."""
        return lambda start: self.stored.where(start + self.window)

    def count_classes(self) -> tuple[int, ...]:
        """Return nothing: targets are numbers."""
        return ()

    def expected_size_in_bytes(self) -> int:
        """Return the bytes of the series, which is read for it."""
        return self.stored.size_in_bytes()

    def test_rule(self) -> str:
        """Return in words which part is for testing."""
        return f"the last {100 * self.test_fraction:g} % of the series, dataset.test_fraction"

    def fake(self) -> Fake:
        """Return random windows of the same length and horizon."""
        return Fake(self.spec, self.batch_size, self.seed)

    def description(self) -> dict[str, Any]:
        """Return the scale of the training part, how the series is written, and its digest."""
        time = self.described_time
        return {
            "mean": self.stored.mean,
            "std": self.stored.std,
            "format": asdict(self.stored.format),
            "time": None if time is None else asdict(time),
            "digest": self.stored.digest,
        }

    @property
    def described_time(self) -> TimeColumn | None:
        """The column that orders the rows, for the run's description."""
        if self.learned is not None:
            return self.learned.time
        if not isinstance(self.source, TableFile):
            return None
        return self.time_column(self.source, self.stored.column)

    def parse(self, description: dict[str, Any]) -> LearnedSeries:
        """Return the content of a description."""
        return parse_series(description)

    def continue_as(self, description: dict[str, Any]) -> None:
        """Keep what was learned from the training series, and its splits."""
        self.restore(description)
        self.is_training = True

    def encode_file(self, path: Path) -> Iterator[Sample]:
        """Yield the last window of the series in a file: what comes after the file is predicted."""
        try:
            table = self.read_table(open_table(path, self.csv))
            column = self.series_of(table)
        except ConfigError as e:
            raise InputError(str(e)) from e
        values = column.values[-self.window :]
        problem = ""
        if len(values) < self.window:
            problem = f"{len(values)} values; a window is {self.window}"
        elif np.isnan(values).any():
            problem = missing_value(table, column.name, column.missing())
        if problem:
            raise InputError(problem)
        yield Sample(str(path), self.encode_numbers(torch.tensor(values).unsqueeze(0))[0])

    @property
    def row_columns(self) -> tuple[str, ...]:
        """The column of the series, if the configuration names one."""
        return () if self.column_name is None else (self.column_name,)

    def encode_numbers(self, values: Tensor) -> Tensor:
        """Return windows (B, window) in the unit of the file as the network's inputs."""
        mean, std = self.scale
        windows = windows_of(values, self.window).numpy()
        return torch.from_numpy(((windows - mean) / std).astype(np.float32)).unsqueeze(2)

    # The report of `check --data`

    def inspect(self) -> list[ReportTable]:
        """Return the table of columns, and the series with its order in time."""
        if not isinstance(self.source, TableFile):
            return []
        sample = self.source.sample()
        series = self.column_name or next(iter(sample))
        time = self.time_column(self.source, series)
        rows: list[tuple[str | int | float, ...]] = []
        for name, texts in sample.items():
            use = "left out"
            if time and name == time.name:
                use = "time"
            is_series = name == series
            example = next(iter(not_empty(texts)), "")
            rows.append((name, kind_of(texts, is_series), "series" if is_series else use, example))
        title = f"columns of {self.source.path}"
        columns = ReportTable("columns", ("name", "type", "use", "example"), rows, title)
        return [columns, self.report_order(self.source, time)]

    def report_order(self, file: TableFile, time: TimeColumn | None) -> ReportTable:
        """Return the table of the series' length and its order in time."""
        length = len(self.stored.values)
        row: tuple[str | int | float, ...] = (length, "", "", "", "as the rows stand")
        if time is not None:
            row = (length, time.name, *time_span(file, time))
        titles = ("rows", "time", "first", "last", "order")
        return ReportTable("series", titles, [row], "the series and its order in time")


def kind_of(texts: list[str], is_series: bool) -> str:
    """Return what a column looks like by its first texts."""
    if looks_like_dates(texts):
        return "date"
    if is_series or are_numbers(not_empty(texts)):
        return "number"
    return "text"
