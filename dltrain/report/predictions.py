"""Rows of predictions: on the screen as a table, in files as CSV or lines of JSON."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, TextIO

from dltrain.errors import InputError
from dltrain.files import replacing, to_json, writing
from dltrain.report.text import number, table

log = logging.getLogger("dltrain")
INPUT = "input"  # the column with the name of what is predicted from
TOP = "top"  # the column with the most probable classes
KEPT_PREFIX = "original_"  # of a kept column with the name of a column of predictions
MAX_KEPT_ROWS = 100  # that --json carries
Row = dict[str, Any]


def with_top(row: Row, top: int) -> Row:
    """Return `row` with the best `top` of its candidates."""
    if TOP not in row:
        return row
    return {**row, TOP: row[TOP][:top]}


def in_columns(row: Row) -> Row:
    """Return `row` with candidates in columns.

    From the second on they get their rank, as in class_2 and probability_2.
    """
    columns = {key: value for key, value in row.items() if key != TOP}
    for rank, candidate in enumerate(row.get(TOP, [])[1:], 2):
        for key, value in candidate.items():
            columns[f"{key}_{rank}"] = value
    return columns


def beside(known: Row, prediction: Row) -> Row:
    """Return what is known about an input, and its prediction behind it.

    Columns of predictions keep their names, so a known column with such a name gets `KEPT_PREFIX`.
    """
    predicted = {TOP, *prediction, *in_columns(prediction)}
    row: Row = {}
    for name, value in known.items():
        row[free_name(name, predicted | row.keys())] = value
    return {**row, **prediction}


def free_name(name: str, taken: AbstractSet[str]) -> str:
    """Return the name, with `KEPT_PREFIX` as often as it takes to be none of those `taken`."""
    while name in taken:
        name = KEPT_PREFIX + name
    return name


def cell(value: Any) -> str:
    """Return a value as text; of a list of mappings only the first value of each, its name."""
    if isinstance(value, list):
        return ", ".join(map(_name_of, value))
    if isinstance(value, float):
        return number(value)
    return str(value)


def _name_of(value: Any) -> str:
    if isinstance(value, dict):
        value = next(iter(value.values()))
    return str(value)


def show(rows: Iterable[Row]) -> tuple[int, list[Row]]:
    """Print all rows as a table; return their number and the first `MAX_KEPT_ROWS`."""
    kept = list(rows)
    if kept:
        header = list(in_columns(kept[0]))
        cells = [[cell(value) for value in in_columns(row).values()] for row in kept]
        log.info(table([header, *cells]))
    return len(kept), kept[:MAX_KEPT_ROWS]


def write(rows: Iterable[Row], out: Path) -> tuple[int, list[Row]]:
    """Write each row as it comes; return their number and the first `MAX_KEPT_ROWS`.

    `out` is left as it is if there are no rows.
    """
    count = 0
    kept: list[Row] = []
    what = f"--out {out}"
    with replacing(out, what) as file:
        write_row = WRITERS[out.suffix](file)
        for row in rows:  # reading inputs may raise too, and that does not blame the output
            count += 1
            if count <= MAX_KEPT_ROWS:
                kept.append(row)
            with writing(what):
                write_row(row)
    return count, kept


def json_writer(file: TextIO) -> Callable[[Row], None]:
    """Return a function that writes a row as a line of JSON."""

    def write_row(row: Row) -> None:
        file.write(to_json(row, ensure_ascii=False) + "\n")

    return write_row


def csv_writer(file: TextIO) -> Callable[[Row], None]:
    """Return a function that writes a row as a line of CSV, after a header.

    It raises InputError for a row with a column that the first one does not have.
    """
    writer: csv.DictWriter[str] | None = None

    def write_row(row: Row) -> None:
        nonlocal writer
        columns = in_columns(row)
        if writer is None:
            writer = csv.DictWriter(file, list(columns))
            writer.writeheader()
        others = [name for name in columns if name not in writer.fieldnames]
        if others:
            raise InputError(
                f"{row[INPUT]} has the column '{others[0]}', which the rows before it lack: "
                "predict files with other columns one by one, or --out FILE.jsonl"
            )
        writer.writerow(columns)

    return write_row


WRITERS = {".csv": csv_writer, ".jsonl": json_writer}
FORMATS = tuple(WRITERS)  # of files of predictions
