"""Reports on a data set for `dltrain check`: absent files and, with --data, their content."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from dltrain.errors import first_names
from dltrain.report.lint.findings import finding_table
from dltrain.report.lint.lint import lint
from dltrain.report.splits import empty_splits
from dltrain.report.text import table
from dltrain.types import (
    AdvisesOnSplit,
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
Rows = list[dict[str, str | int | float]]


def require_files(data: Data) -> None:
    """Raise ConfigError if no file is named, InputError if a named one is absent."""
    if isinstance(data, ReadsFiles):
        data.find_files()


def report_data(data: Data, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Read `data` as training does, print its content, and return the same for --json.

    `settings` are those of the data set: a warning names each split that they ask for and that is
    empty. Raises InputError for files that training cannot use.
    """
    with collected_messages() as messages:
        require_files(data)
        splits: dict[str, DataSplit] = {name: getattr(data, name) for name in SPLITS}
        if not data.spec.actions:
            for split in splits.values():
                next(split.epoch(0), None)
        data.description()  # may raise: training writes it into the run's manifest
        for message in [*empty_splits(data, settings), *split_advice(data)]:
            log.warning(message)
        tables = [sample_counts(splits), *class_counts(data, splits)]
        if isinstance(data, Inspects):
            tables += data.inspect()
        findings = lint(data)
        for finding in findings:
            log.warning(finding.message)
    shown = finding_table(findings)
    if shown.rows:
        tables.append(shown)
    content = print_tables(tables)
    content["lint"] = as_mappings(finding_table(findings, max_examples=None))
    return {**content, **messages}


def report_spec_files(data: Data) -> dict[str, Rows]:
    """Print the content of data that had to be read for its spec, and return it for --json."""
    if not isinstance(data, SpecFromFiles) or not data.spec_is_read:
        return {}
    if not isinstance(data, Inspects):
        return {}
    content = print_tables(data.inspect())
    for message in split_advice(data):
        log.warning(message)
    return content


def split_advice(data: Data) -> Sequence[str]:
    """Return lines on groups of samples that the split does not keep together."""
    if isinstance(data, AdvisesOnSplit):
        return data.split_advice()
    return []


def print_tables(tables: Iterable[ReportTable]) -> dict[str, Rows]:
    """Print each table, and return all for --json: a mapping for each row."""
    by_name: dict[str, Rows] = {}
    for one in tables:
        log.info(as_text(one))
        by_name[one.name] = as_mappings(one)
    return by_name


def as_mappings(content: ReportTable) -> Rows:
    """Return the rows of a table for --json."""
    return [dict(zip(content.columns, row, strict=True)) for row in content.rows]


@contextmanager
def collected_messages() -> Iterator[dict[str, list[str]]]:
    """Yield the warnings and notes that are logged in the block; they are printed too."""
    handler = Collector(logging.INFO)
    log.addHandler(handler)
    try:
        yield handler.messages
    finally:
        log.removeHandler(handler)


class Collector(logging.Handler):
    """A handler that keeps the messages."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.messages: dict[str, list[str]] = {"warnings": [], "notes": []}

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        kind = "notes"
        if record.levelno >= logging.WARNING:
            kind = "warnings"
        self.messages[kind].append(record.getMessage())


def sample_counts(splits: Mapping[str, DataSplit]) -> ReportTable:
    """Return a table of the samples in each split."""
    rows = [(name, split.samples) for name, split in splits.items()]
    return ReportTable("samples", ("split", "samples"), rows, "samples in each split")


def class_counts(data: Data, splits: Mapping[str, DataSplit]) -> list[ReportTable]:
    """Return a table of the samples of each class in each split; none if they are not counted."""
    names = data.spec.class_names
    if not names or data.spec.boxes:
        return []
    counts = {}
    for name, split in splits.items():
        if not isinstance(split, CountsClasses):
            return []
        counts[name] = split.class_counts(len(names))
    warn_of_absent_classes(names, counts)
    rows = list(zip(names, *counts.values(), strict=True))
    title = f"{len(names):,} classes and their samples"
    return [ReportTable("classes", ("class", *counts), rows, title)]


def warn_of_absent_classes(names: tuple[str, ...], counts: Mapping[str, tuple[int, ...]]) -> None:
    """Log a warning for each split that has samples, but none of some classes."""
    for split, split_counts in counts.items():
        absent = [name for name, count in zip(names, split_counts, strict=True) if not count]
        if absent and len(absent) < len(names):
            classes = first_names(absent, MAX_CLASSES_NAMED)
            log.warning(f"the {split} split has no sample of {classes}")


def as_text(content: ReportTable) -> str:
    """Return a table for the screen; of a long one the first rows."""
    rows = [tuple(map(cell, row)) for row in content.rows[:MAX_ROWS_SHOWN]]
    lines = table([content.columns, *rows], right=numeric_columns(content))
    text = f"\n{content.title or content.name}\n{lines}"
    hidden = len(content.rows) - len(rows)
    if hidden:
        text += f"\n  and {hidden:,} more: --json has all of them"
    return text


def numeric_columns(content: ReportTable) -> frozenset[int]:
    """Return the indices of the columns that hold numbers alone."""
    columns = set(range(len(content.columns)))
    for row in content.rows:
        columns = {column for column in columns if isinstance(row[column], int | float)}
    return frozenset(columns)


def cell(value: str | float) -> str:
    """Return a value as text, whole numbers with separators."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
