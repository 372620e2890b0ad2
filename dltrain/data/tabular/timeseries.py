"""A series of numbers in the order of time: windows of it as inputs, what follows each as targets."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dltrain.data.dataset import invalid_description
from dltrain.data.fake import Fake
from dltrain.data.io.dates import looks_like_dates
from dltrain.data.io.number_format import NumberFormat
from dltrain.data.split import Split
from dltrain.data.tabular.column_plan import end_of
from dltrain.data.tabular.column_reader import DecimalMark, MissingValue, ThousandsMark
from dltrain.data.tabular.encoding import FARTHEST, statistics
from dltrain.data.tabular.header import is_number
from dltrain.data.tabular.table import Column, Request, Table, TableSource, column_name
from dltrain.data.tabular.table_files import TableFile
from dltrain.data.tabular.time_order import (
    TimeColumn,
    find_time_column,
    in_order,
    named_time_column,
    time_span,
)
from dltrain.errors import ConfigError, InputError
from dltrain.types import BatchSize, ColumnName, Fraction, PositiveInt, ReportTable, Sample, Spec

log = logging.getLogger("dltrain")


@dataclass(frozen=True)
class Loaded:
    """A series (N,) that is read and standardized, and from where on windows of each split begin."""

    series: Tensor
    mean: float
    std: float
    format: NumberFormat
    column: str
    train: Tensor
    val: Tensor
    test: Tensor
    digest: str


def empty_value(table: Table, name: str, absent: NDArray[np.bool_]) -> str:
    """Say where a series has no value, and what to do: at its end may be the steps that are to be
    forecast.
    """
    end = end_of(table, absent)
    first = table.where(int(absent.argmax()))
    if end:
        return f"{first}: column '{name}' is empty{end}: if these are steps to be forecast, cut the rows off"
    start = int((~absent).argmax())
    if start and not absent[start:].any():
        return f"{first}: column '{name}' is empty up to {table.where(start - 1)}: cut the rows off"
    more = f" ({int(absent.sum()):,} such rows)" if absent.sum() > 1 else ""
    return f"{first}: column '{name}' is empty{more}: a series has no gaps; fill the value in"


def tell_of_flat_part(
    table: Table, part: str, values: NDArray[np.float64], start: int, end: int
) -> None:
    """Say that a part of the series does not change, so that no forecast of it can be judged."""
    if end > start and (values[start:end] == values[start]).all():
        log.warning(
            f"{table.where(start)}: from here on the {part} part of the series is {values[start]:g} throughout: "
            "its R2 is 0 or 1, and its error relative to the naive forecast is undefined"
        )


class TimeSeries:
    """The `column` of the file `path` (null: its only one), a row a time step; or the series of a
    `source`.

    An input is `window` values in a row, (window, 1), its targets all of the `horizon` values after
    them, (horizon,), by the names t+1, t+2, ... The first part of the series is for training, then
    `val_fraction` of it for validation and the last `test_fraction` for testing: no window with its
    targets reaches over a border, so that nothing of a later part is seen in an earlier one. All
    are standardized by the training part. Of a series other than the one a run was trained on all
    is for testing. Windows are views of the one series, copied a batch at a time.

    Rows are put into the order of the column `time`: "auto" is one of dates, or of numbers with a
    name such as t or year, if there is one; "none" takes the rows as they stand. A line says what
    is changed.

    InputError with file and line for a value that is missing, and for a part too short for a window
    with its targets.
    """

    def __init__(
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
                "dataset.val_fraction and dataset.test_fraction leave nothing to train on: lower them"
            )
        self.open = partial(
            TableFile,
            delimiter=delimiter,
            encoding=encoding,
            header=header,
            decimal=decimal,
            thousands=thousands,
            missing_values=missing_values,
        )
        self.source = self.open(path) if path is not None else source
        self.column_name = None if column is None else column_name(column)
        self.time = column_name(time)
        self.window, self.horizon = window, horizon
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self.epochs, self.seed, self.device = epochs, seed, torch.device("cpu")
        self.restored: dict[str, Any] | None = None
        self.is_training = True  # and not a finished run's data

    @property
    def spec(self) -> Spec:
        """Of the restored run or the series, which is read for it; a stand-in where none is named."""
        known = self.restored or (self.description() if self.source else {"mean": 0.0, "std": 1.0})
        windows = (
            [len(part) for part in self.parts] if self.source and self.is_training else [80, 20, 20]
        )
        return Spec(
            input_shape=(self.window, 1),
            class_names=(),
            train_samples=windows[0] + windows[1],
            test_samples=windows[2],
            target_names=tuple(f"t+{step}" for step in range(1, self.horizon + 1)),
            target_mean=(known["mean"],) * self.horizon,
            target_std=(known["std"],) * self.horizon,
        )

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.loaded.train, self.loaded.val, self.loaded.test

    @cached_property
    def loaded(self) -> Loaded:
        if self.source is None:
            raise ConfigError(
                [
                    (
                        "dataset.path=null",
                        "name the file of the series: dataset.path=FILE.csv or .parquet",
                    )
                ]
            )
        table = self.read(self.source)
        column = self.column(table)
        values = column.values
        if (absent := column.missing()).any():
            raise InputError(empty_value(table, column.name, absent))
        test, val = (
            round(fraction * len(values)) for fraction in (self.test_fraction, self.val_fraction)
        )
        borders = [0, len(values) - val - test, len(values) - test, len(values)]
        if self.restored and not self.is_training and self.restored["digest"] != table.digest:
            borders = [0, 0, 0, len(values)]
        parts = [self.windows(table, *border) for border in pairwise(borders)]
        for part, (start, end) in zip(("validation", "test"), pairwise(borders[1:]), strict=True):
            tell_of_flat_part(table, part, values, start, end)
        if self.restored:
            mean, std = self.restored["mean"], self.restored["std"]
        elif (values == values[0]).all():
            raise InputError(
                f"{table.where(0)}: from here on column '{column.name}' is {values[0]:g}: nothing to learn"
            )
        else:
            mean, std = statistics(values[: borders[1]])
        series = torch.from_numpy(
            np.clip((values - mean) / std, -FARTHEST, FARTHEST).astype(np.float32)
        )
        return Loaded(
            series,
            mean,
            std,
            column.number_format,
            column.name,
            parts[0],
            parts[1],
            parts[2],
            table.digest,
        )

    def read(self, source: TableSource) -> Table:
        """Read the series, with its rows in the order of time."""
        table = source.read(self.request)
        if not isinstance(source, TableFile):
            return table
        time = self.time_column(source, self.column(table).name)
        return in_order(table, source, time) if time else table

    def time_column(self, file: TableFile, series: str) -> TimeColumn | None:
        """Return the column that orders the rows: the run's, the one that is named, or one that
        looks like it.
        """
        if self.time == "none":
            return None
        sample = file.sample()
        if self.restored:
            saved = self.restored.get("time")
            if saved and saved["name"] not in sample:
                log.warning(
                    f"{file.path}: there is no column '{saved['name']}': the rows are taken as they stand"
                )
                return None
            return TimeColumn(**saved) if saved else None
        return (
            find_time_column(sample, series)
            if self.time == "auto"
            else named_time_column(sample, self.time)
        )

    @property
    def spec_is_read(self) -> bool:
        return self.source is not None and not self.restored

    def inspect(self) -> list[ReportTable]:
        """Return the table of columns: what each looks like, and what it is used for."""
        if not isinstance(self.source, TableFile):
            return []
        sample = self.source.sample()
        series = self.column_name or next(iter(sample))
        time = self.time_column(self.source, series)
        rows: list[tuple[str | int | float, ...]] = []
        for name, texts in sample.items():
            use = (
                "series" if name == series else "time" if time and name == time.name else "left out"
            )
            numeric = all(is_number(text) for text in texts if text.strip())
            kind = (
                "date"
                if looks_like_dates(texts)
                else "number"
                if numeric or name == series
                else "text"
            )
            rows.append((name, kind, use, next((text for text in texts if text.strip()), "")))
        title = f"columns of {self.source.path}"
        columns = ReportTable("columns", ("name", "type", "use", "example"), rows, title)
        first, last, order = time_span(self.source, time) if time else ("", "", "as the rows stand")
        span = (len(self.loaded.series), time.name if time else "", first, last, order)
        titles = ("rows", "time", "first", "last", "order")
        return [columns, ReportTable("series", titles, [span], "the series and its order in time")]

    @property
    def request(self) -> Request:
        """The column to read, in the format in which the restored run read its own."""
        saved = self.restored.get("format") if self.restored else None
        known = NumberFormat(**saved) if saved else None
        if self.column_name is None:
            return Request(other_format=known)
        return Request([self.column_name], numbers={self.column_name: known})

    def column(self, table: Table) -> Column:
        """The series; ConfigError where none is named and the table has several columns."""
        if self.column_name is None and len(table.columns) > 1:
            columns = ", ".join(table.columns)
            raise ConfigError(
                [
                    (
                        "dataset.column=null",
                        f"name the series: {table.name} has the columns {columns}",
                    )
                ]
            )
        column = table.columns[self.column_name or next(iter(table.columns))]
        if column.texts is not None:
            raise InputError(
                f"{table.where(0)}: column '{column.name}' is text: a series is of numbers"
            )
        return column

    def windows(self, table: Table, start: int, end: int) -> Tensor:
        """Where in start..end the windows begin; InputError if none has room."""
        count = end - start - self.window - self.horizon + 1
        if end > start and count < 1:
            raise InputError(
                f"{table.where(start)}: from here on {end - start} values are one part of the series, too few for "
                f"dataset.window={self.window} and dataset.horizon={self.horizon}"
            )
        return torch.arange(start, start + max(0, count))

    @property
    def class_counts(self) -> tuple[int, ...]:
        return ()

    @cached_property
    def stored(self) -> tuple[Tensor, Tensor]:
        """Views of the series: every window (N, window, 1), and what follows it (N, horizon)."""
        views = self.loaded.series.to(self.device).unfold(0, self.window + self.horizon, 1)
        return views[:, : self.window].unsqueeze(2), views[:, self.window :]

    @cached_property
    def train(self) -> Split:
        return Split(*self.stored, self.loaded.train, self.spec, self.batch_size, self.seed)

    @cached_property
    def val(self) -> Split:
        return Split(*self.stored, self.loaded.val, self.spec, self.eval_batch_size, None)

    @cached_property
    def test(self) -> Split:
        return Split(*self.stored, self.loaded.test, self.spec, self.eval_batch_size, None)

    def test_rule(self) -> str:
        return f"the last {100 * self.test_fraction:g} % of the series, dataset.test_fraction"

    def fake(self) -> Fake:
        """Random windows of the same length and horizon."""
        return Fake(self.spec, self.batch_size, self.seed)

    def to(self, device: torch.device) -> None:
        self.device = device

    def size_in_bytes(self) -> int:
        return self.loaded.series.numel() * self.loaded.series.element_size()

    def fingerprint(self) -> str:
        return self.loaded.digest

    def description(self) -> dict[str, Any]:
        return {
            "mean": self.loaded.mean,
            "std": self.loaded.std,
            "format": asdict(self.loaded.format),
            "time": self.saved_time,
            "digest": self.loaded.digest,
        }

    @property
    def saved_time(self) -> dict[str, Any] | None:
        """The column that orders the rows, for the run's description."""
        if self.restored:
            return self.restored.get("time")
        if not isinstance(self.source, TableFile):
            return None
        time = self.time_column(self.source, self.loaded.column)
        return asdict(time) if time else None

    def restore(self, description: dict[str, Any]) -> None:
        try:
            mean, std = float(description["mean"]), float(description["std"])
        except (KeyError, TypeError, ValueError) as e:
            raise invalid_description(repr(e)) from e
        if not (math.isfinite(mean) and 0 < std < math.inf):
            raise invalid_description("a mean or a deviation is none")
        self.restored, self.is_training = description, False

    def continue_as(self, description: dict[str, Any]) -> None:
        self.restore(description)
        self.is_training = True

    def encode(self, paths: Sequence[Path]) -> Iterator[Sample]:
        """Of each file the last window of its series: what comes after the file's end is to be predicted."""
        mean, std = self.spec.target_mean[0], self.spec.target_std[0]
        for path in paths:
            try:
                table = self.read(self.open(path))
                column = self.column(table)
            except (ConfigError, InputError) as e:
                yield Sample(str(path), None, str(e))
                continue
            values = column.values[-self.window :]
            problem = (
                ""
                if len(values) == self.window
                else f"{len(values)} values; a window is {self.window}"
            )
            if not problem and np.isnan(values).any():
                problem = empty_value(table, column.name, column.missing())
            inputs = torch.from_numpy(((values - mean) / std).astype(np.float32)).unsqueeze(1)
            yield Sample(str(path), None if problem else inputs, problem)
