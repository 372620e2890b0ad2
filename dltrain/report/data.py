"""Reports on a data set for `dltrain check`: absent files and, with --data, what the files hold."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dltrain.errors import first_names
from dltrain.report.splits import empty_splits
from dltrain.report.text import table
from dltrain.types import (
    CountsClasses,
    Data,
    DataSplit,
    Inspects,
    ReadsFiles,
    ReportTable,
    SpecFromFiles,
)

log = logging.getLogger("dltrain")
SPLITS = ("train", "val", "test")
MAX_CLASSES_NAMED = 10  # in a message
MAX_ROWS_SHOWN = 100  # of a table, on the screen; --json has all of them


def find_files(data: Data) -> None:
    """Raise what training would raise at once: ConfigError where no file is named, InputError where
    one is absent.
    """
    if isinstance(data, ReadsFiles):
        data.find_files()


def report_data(data: Data, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Read `data` as training does, print what is in it, and return the same for --json.

    `settings` are those of the data set: a line names each split that they ask for and that is
    empty. Raises what training would raise: InputError for files that cannot be used.
    """
    with collected_lines() as lines:
        find_files(data)
        splits: dict[str, DataSplit] = {name: getattr(data, name) for name in SPLITS}
        samples = {name: split.samples for name, split in splits.items()}
        if not data.spec.actions:
            for split in splits.values():
                next(split.epoch(0), None)
        data.description()  # a run's manifest begins with it
        for message in empty_splits(data, settings):
            log.warning(message)
        listings = [sample_counts(samples), *class_counts(data, splits)]
        if isinstance(data, Inspects):
            listings += data.inspect()
    for listing in listings:
        log.info(as_text(listing))
    return {**{listing.name: as_rows(listing) for listing in listings}, **lines}


@contextmanager
def collected_lines() -> Iterator[dict[str, list[str]]]:
    """Yield the warnings and the notes that are logged in the block; they go to the screen too."""
    handler = Collector(logging.INFO)
    log.addHandler(handler)
    try:
        yield handler.lines
    finally:
        log.removeHandler(handler)


class Collector(logging.Handler):
    """A handler that keeps the messages."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.lines: dict[str, list[str]] = {"warnings": [], "notes": []}

    def emit(self, record: logging.LogRecord) -> None:
        kind = "warnings" if record.levelno >= logging.WARNING else "notes"
        self.lines[kind].append(record.getMessage())


def report_read(data: Data) -> dict[str, Any]:
    """Print what is in data that was read for its spec, and return it for --json; nothing for other
    data.
    """
    if not (isinstance(data, SpecFromFiles) and data.spec_is_read and isinstance(data, Inspects)):
        return {}
    listings = data.inspect()
    for listing in listings:
        log.info(as_text(listing))
    return {listing.name: as_rows(listing) for listing in listings}


def sample_counts(samples: dict[str, int]) -> ReportTable:
    """Return a table of the samples in each split."""
    return ReportTable(
        "samples", ("split", "samples"), list(samples.items()), "samples in each split"
    )


def class_counts(data: Data, splits: dict[str, DataSplit]) -> list[ReportTable]:
    """Return a table of the samples of each class in each split, if the data has classes and its
    splits count them.
    """
    names = data.spec.class_names
    counted = {name: split for name, split in splits.items() if isinstance(split, CountsClasses)}
    if not names or len(counted) < len(splits) or data.spec.boxes:
        return []
    counts = [split.class_counts(len(names)) for split in counted.values()]
    rows = list(zip(names, *counts, strict=True))
    warn_of_absent_classes(names, dict(zip(counted, counts, strict=True)))
    return [
        ReportTable(
            "classes", ("class", *counted), rows, f"{len(names):,} classes and their samples"
        )
    ]


def warn_of_absent_classes(names: tuple[str, ...], counts: dict[str, tuple[int, ...]]) -> None:
    """Log a line for each split that has samples, but none of some classes."""
    for split, of_classes in counts.items():
        absent = [name for name, count in zip(names, of_classes, strict=True) if not count]
        if absent and len(absent) < len(names):
            log.warning(
                f"the {split} split has no sample of {first_names(absent, MAX_CLASSES_NAMED)}"
            )


def as_text(listing: ReportTable) -> str:
    """Return the table for the screen, its first rows if it is long."""
    rows = [tuple(map(cell, row)) for row in listing.rows[:MAX_ROWS_SHOWN]]
    numbers = [
        column
        for column in range(len(listing.columns))
        if all(isinstance(row[column], int | float) for row in listing.rows)
    ]
    lines = table([listing.columns, *rows], right=frozenset(numbers))
    left = len(listing.rows) - len(rows)
    more = f"\n  and {left:,} more: --json has all of them" if left else ""
    return f"\n{listing.title or listing.name}\n{lines}{more}"


def cell(value: str | float) -> str:
    """Return a value as text: whole numbers with separators."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def as_rows(listing: ReportTable) -> list[dict[str, str | int | float]]:
    """Return the table for --json, a mapping for each row."""
    return [dict(zip(listing.columns, row, strict=True)) for row in listing.rows]
