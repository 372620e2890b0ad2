"""The split of a table in the order of time: the earliest rows are for training."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from dltrain.data.io.dates import date_text, formats_of, seconds_of
from dltrain.data.tabular.files.table_file import TableFile
from dltrain.data.tabular.splits.columns import count_such_rows, read_column
from dltrain.data.tabular.table import Column, TableSource
from dltrain.data.tabular.table_rows import Rows, TableRows
from dltrain.errors import InputError
from dltrain.shell import setting

log = logging.getLogger("dltrain")
ZONE = re.compile(r"[0-9]{2}:[0-9]{2}.*?(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)\s*")
Times = NDArray[np.float64]


def read_times(source: TableSource, name: str, samples: TableRows) -> Times:
    """Return when each usable row (N,) is: its number, or seconds since 1970 of its date.

    Raises:
        ConfigError: the table has no such column.
        InputError: a row has no time, or one that can be understood in two ways; the message names
            file and line.
    """
    column = read_column(source, name)
    reader = TimeReader(column, samples)
    if column.texts is None:
        times = column.values[samples.rows]
    else:
        times = reader.dates()
    reader.refuse_absent(times)
    return times


def warn_of_early(
    name: str, train: tuple[TableSource, TableRows], test: tuple[TableFile, TableRows]
) -> None:
    """Warn of rows of a separate test table that are not later than all training rows.

    Nothing is said if the test table does not have the column.
    """
    test_source, test_samples = test
    if name not in test_source.names():
        return
    last = read_times(train[0], name, train[1]).max()
    is_early = read_times(test_source, name, test_samples) <= last
    if is_early.any():
        log.warning(
            f"{setting('dataset.time', name)}: {int(is_early.sum()):,} of {len(is_early):,} test "
            f"rows ({test_samples.places[int(is_early.argmax())]} is the first) are not later than "
            "the last row of the training table, so test metrics are no forecast"
        )


class TimeReader:
    """Reads the times of the usable rows of a table, and refuses what is not clear."""

    def __init__(self, column: Column, samples: TableRows) -> None:
        self.column = column
        self.samples = samples
        self.codes = column.values[samples.rows]

    def dates(self) -> Times:
        """Return the seconds since 1970 (N,) of dates; not a number for other texts."""
        texts = self.column.texts or ()
        used = [texts[code] for code in np.unique(self.codes) if code >= 0]
        present = [text for text in used if not self.column.means_missing(text)]
        formats = formats_of(present)
        readings = [self.read_in(texts, date_format) for date_format in formats]
        if not readings:
            return np.full(len(self.codes), np.nan)
        times = readings[0]
        for other in readings[1:]:
            self.refuse_ambiguous(times, other)
        self.refuse_mixed_zones(texts, np.flatnonzero(~np.isnan(times)))
        return times

    def read_in(self, texts: Sequence[str], date_format: str) -> Times:
        """Return the seconds since 1970 of each row in a format."""
        seconds = [seconds_of(text, date_format) for text in texts]
        seconds.append(np.nan)  # for the code -1
        return np.array(seconds)[self.codes]

    def refuse_ambiguous(self, first: Times, second: Times) -> None:
        """Raise InputError if two ways to read the dates give other moments."""
        differs = (first != second) & ~np.isnan(first) & ~np.isnan(second)
        if differs.any():
            row = int(differs.argmax())
            raise InputError(
                f"{self.place(row)}: {self.text(row)!r} in column '{self.column.name}' is "
                f"{date_text(first[row])} or {date_text(second[row])}: write dates as in 2024-12-31"
            )

    def refuse_mixed_zones(self, texts: Sequence[str], rows: Rows) -> None:
        """Raise InputError if some of the `rows` have a time zone and others have none."""
        has_zone = np.array([ZONE.search(text) is not None for text in texts])
        zones = has_zone[self.codes[rows]]
        if zones.any() and not zones.all():
            first, other = rows[0], rows[int((zones != zones[0]).argmax())]
            raise InputError(
                f"{self.place(other)}: {self.text(other)!r} in column '{self.column.name}' and "
                f"{self.text(first)!r} ({self.place(first)}): one has a time zone and the other "
                "has none; write all in one way"
            )

    def refuse_absent(self, times: Times) -> None:
        """Raise InputError for the first row without a time."""
        absent = np.isnan(times)
        if not absent.any():
            return
        row = int(absent.argmax())
        count = count_such_rows(int(absent.sum()))
        what = "is empty"
        if self.text(row):
            what = f"has {self.text(row)!r}, which is not a date like the others,"
        raise InputError(
            f"{self.place(row)}: column '{self.column.name}' {what} ({count}), and "
            f"{setting('dataset.time', self.column.name)} needs a number in every row, or a date "
            "such as 2024-12-31 or 2024-12-31T18:30:00 in every row: correct or remove the row"
        )

    def place(self, row: int) -> str:
        """Return file and line of a usable row."""
        return self.samples.places[row]

    def text(self, row: int) -> str:
        """Return the text of a usable row; "" for none, and for a number."""
        code = self.codes[row]
        if self.column.texts is None or code < 0:
            return ""
        text = self.column.texts[int(code)]
        return "" if self.column.means_missing(text) else text


def split_by_time(
    times: Times,
    val_fraction: float,
    test_fraction: float,
    folds: int | None,
    fold: int | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the rows for training, validation and testing, each later than the ones before.

    Rows of the same time stay together. With folds, fold k is validated on the k-th of equal parts
    and trained on all rows before it, as in scikit-learn's TimeSeriesSplit; rows after it are not
    used.

    Raises:
        InputError: there are too few different times.
    """
    order = np.argsort(times, kind="stable")
    ordered = times[order]
    count = len(ordered)
    test_start = nearest_border(ordered, count - round(test_fraction * count))
    train_end = nearest_border(ordered[:test_start], test_start - round(val_fraction * test_start))
    val_end = test_start
    if folds is not None:
        borders = fold_borders(ordered[:test_start], folds)
        train_end, val_end = borders[fold or 0 : (fold or 0) + 2]
    parts = order[:train_end], order[train_end:val_end], order[test_start:]
    train, val, test = (torch.from_numpy(np.sort(part)) for part in parts)
    return train, val, test


def nearest_border(ordered: Times, wanted: int) -> int:
    """Return the border nearest to position `wanted` that separates no rows of the same time.

    A border that is wanted within the rows has rows on both sides.

    Raises:
        InputError: all rows have the same time.
    """
    if not 0 < wanted < len(ordered):
        return wanted
    time = ordered[wanted]
    first = int(np.searchsorted(ordered, time, side="left"))
    last = int(np.searchsorted(ordered, time, side="right"))
    inner = [border for border in (first, last) if 0 < border < len(ordered)]
    if not inner:
        raise InputError(
            f"dataset.split=time: {len(ordered):,} rows have the same time, so they cannot be "
            "divided: name another column with dataset.time, or lower dataset.val_fraction or "
            "dataset.test_fraction"
        )
    return min(inner, key=lambda border: abs(border - wanted))


def fold_borders(ordered: Times, folds: int) -> list[int]:
    """Return where each fold begins and the last one ends, by position in the order of time.

    Raises:
        InputError: a fold or the rows before the first one would be empty.
    """
    count = len(ordered)
    size = count // (folds + 1)
    wanted = [count - folds * size + fold * size for fold in range(folds)]
    borders = [nearest_border(ordered, start) for start in wanted]
    borders.append(count)
    if borders[0] == 0 or (np.diff(borders) <= 0).any():
        times = len(np.unique(ordered))
        raise InputError(
            f"dataset.folds={folds} with dataset.split=time: {count:,} rows at {times:,} different "
            f"times cannot be divided into {folds + 1} parts, one after the other: lower "
            "dataset.folds"
        )
    return borders
