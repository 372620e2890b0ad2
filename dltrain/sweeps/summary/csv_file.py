"""The table of a sweep as a file, `results.csv`: a line for each trial that has ended."""

from __future__ import annotations

import csv
import io
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dltrain.files import replace_file
from dltrain.shell import shell_word
from dltrain.sweeps.names import values_by_key
from dltrain.sweeps.summary.ranking import OF_RUNS
from dltrain.sweeps.trial import Row

log = logging.getLogger("dltrain")
RESULTS_CSV = "results.csv"
BEST = ("metric", "value", "step")  # of the best evaluation of the watched metric
Table = list[list[str]]


def write_results_csv(
    sweep: Path, rows: Sequence[Row], swept: Sequence[str], attempts: Mapping[int, int]
) -> None:
    """Replace results.csv in a sweep's folder; a full disk costs a warning.

    `attempts` has how often each trial was started, by number.
    """
    path = sweep / RESULTS_CSV
    try:
        replace_file(path, csv_bytes(csv_table(sweep, rows, swept, attempts)))
    except OSError as e:
        log.warning(f"{path} cannot be written: {e.strerror or e}")


def csv_bytes(table: Table) -> bytes:
    """Return a table as CSV (RFC 4180); bytes of names that are no UTF-8 are escaped."""
    file = io.StringIO(newline="")
    csv.writer(file).writerows(table)
    return file.getvalue().encode("utf-8", errors="backslashreplace")


def csv_table(
    sweep: Path, rows: Sequence[Row], swept: Sequence[str], attempts: Mapping[int, int]
) -> Table:
    """Return the header and a line for each trial, with figures that are not rounded."""
    metrics = metrics_of(rows)
    best = [f"best/{part}" for part in BEST]
    last = [*OF_RUNS, "folder", "overrides", "attempts"]
    table = [["number", "status", "reason", *swept, *metrics, *best, *last]]
    for row in rows:
        line = csv_line(sweep, row, swept, metrics)
        table.append([*line, field(attempts.get(row["job"]))])
    return table


def metrics_of(rows: Sequence[Row]) -> list[str]:
    """Return the metrics that any trial has, in the order of their first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row["metrics"]))


def csv_line(sweep: Path, row: Row, swept: Sequence[str], metrics: Sequence[str]) -> list[str]:
    """Return the fields of a trial up to its overrides.

    `folder` is that of its run in the sweep's folder.
    """
    folder = str(row["job"])
    if not (sweep / folder).is_dir():  # it failed before its run had one
        folder = ""
    return [
        str(row["job"]),
        row["status"],
        row.get("reason") or "",
        *fields_of(values_by_key(row["overrides"]), swept),
        *fields_of(row["metrics"], metrics),
        *fields_of(row.get("best") or {}, BEST),
        *fields_of(row, OF_RUNS),
        folder,
        " ".join(map(shell_word, row["overrides"])),
    ]


def fields_of(values: Mapping[str, Any], keys: Iterable[str]) -> list[str]:
    """Return the values of keys as fields."""
    return [field(values.get(key)) for key in keys]


def field(value: Any) -> str:
    """Return a value as a field; empty for none, and for a number that is not finite."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return str(value)
