"""The columns of the table of runs, and the table as text, CSV and JSON."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from dltrain.config.schema import as_yaml
from dltrain.report.text import number, table
from dltrain.runs.comparison.groups import INSTEAD
from dltrain.runs.listing.rows import NOTHING, Row, is_averaged, is_metric
from dltrain.runs.listing.summary import NAMED_GROUPS, RunSummary
from dltrain.runs.listing.values import ABSENT, HEADERS, value_of
from dltrain.statistics import Summary
from dltrain.sweeps.names import short_names
from dltrain.types import flatten

MAX_DIFFERENT = 4  # columns of keys that differ between the runs
MAX_TEST_METRICS = 2  # columns of test metrics; in groups, which have intervals, one
UNSHOWN = ("seed", "debug", "name")  # settings that are no column of their own among the different
COUNT = "n"  # the column of how many seeds count
INTERVAL = " ci95"  # ends the key of the column of a metric's interval
SPREAD = ("std", "ci95", "n")  # what a group has beside a mean
FACTS = ("epochs", "steps", "seconds", "samples_per_second")


def default_columns(rows: Sequence[Row], is_grouped: bool) -> list[str]:
    """Return the keys of the columns that say most about the rows."""
    runs = runs_of(rows)
    first = ["runs", "status"]
    different = different_keys(runs)[:MAX_DIFFERENT]
    if not is_grouped:
        first = ["run", "date", "status"]
        different = [*used_keys(runs, ("seed",)), *different]
    named = used_keys(runs, ("name", "debug", "experiment"))
    figures = figure_columns(runs, MAX_TEST_METRICS)
    if is_grouped:
        figures = [*with_intervals(figure_columns(runs, 1)), COUNT]
    return [*first, *named, "model", "dataset", *different, "epochs", *figures, "seconds"]


def runs_of(rows: Sequence[Row]) -> list[RunSummary]:
    """Return the runs of all rows."""
    return [run for row in rows for run in row.runs]


def used_keys(runs: Sequence[RunSummary], keys: Sequence[str]) -> list[str]:
    """Return the keys whose values differ between the runs, or are something for the only one."""
    used = [key for key in keys if different_values(runs, key) > 1]
    if len(runs) == 1:
        used = [key for key in keys if key != "seed" and value_of(runs[0], key) is not ABSENT]
    return used


def different_keys(runs: Sequence[RunSummary]) -> list[str]:
    """Return the settings whose values differ between runs, those set most often first."""
    counts: Counter[str] = Counter()
    for run in runs:
        counts.update(flatten(run.settings).keys())
    keys = [key for key, _ in counts.most_common() if key not in (*NAMED_GROUPS, *UNSHOWN)]
    return [key for key in keys if different_values(runs, key) > 1]


def different_values(runs: Sequence[RunSummary], key: str) -> int:
    """Return how many different values a key has among the runs, at most two."""
    values: set[str] = set()
    for run in runs:
        values.add(as_yaml(value_of(run, key)))
        if len(values) > 1:
            break
    return len(values)


def figure_columns(runs: Sequence[RunSummary], test_count: int) -> list[str]:
    """Return the watched metric and the main metrics of the test, as columns."""
    columns = ["best"]
    if different_values(runs, "best/metric") > 1:
        columns.append("best/metric")
    return [*columns, *test_metrics(runs)[:test_count]]


def with_intervals(keys: Sequence[str]) -> list[str]:
    """Return keys of figures, the column of its interval after each metric."""
    columns = []
    for key in keys:
        columns.append(key)
        if is_metric(key):
            columns.append(f"{key}{INTERVAL}")
    return columns


def test_metrics(runs: Sequence[RunSummary]) -> list[str]:
    """Return the test metrics that belong to what the runs watch, the most frequent first."""
    watched = Counter(run.watch for run in runs if run.watch)
    names = [f"test/{metric.partition('/')[2]}" for metric, _ in watched.most_common()]
    shown = [one for name in names for one in INSTEAD.get(name, (name,))]
    known = {name for run in runs for name in run.metrics}
    return list(dict.fromkeys(name for name in [*shown, "test/loss"] if name in known))


def csv_columns(rows: Sequence[Row], is_grouped: bool) -> list[str]:
    """Return the keys of all columns that are of use in another program."""
    runs = runs_of(rows)
    first = ["runs"] if is_grouped else ["folder", "date", "name", "debug", "seed"]
    metrics = sorted({name for run in runs for name in run.metrics})
    keys = [*NAMED_GROUPS, *different_keys(runs), *FACTS]
    best = ["best/metric", "best", "best/epoch"]
    return [*first, "status", *dict.fromkeys([*keys, *best, *metrics])]


def cell(row: Row, key: str) -> str:
    """Return the text of a cell."""
    if key == "runs":
        return str(len(row.runs))
    if key == COUNT:
        return str(row.count)
    if key.endswith(INTERVAL):
        return interval_text(row.summary(key.removesuffix(INTERVAL)))
    return row.text(key)


def interval_text(summary: Summary) -> str:
    """Return the 95 % interval of a mean; a dash if it has none."""
    if summary.low is None or summary.high is None:
        return NOTHING
    return f"{number(summary.low)} to {number(summary.high)}"


def header_of(key: str, rows: Sequence[Row], names: dict[str, str]) -> str:
    """Return the header of a column: the key, shortened if no other ends in the same way."""
    if key.endswith(INTERVAL):
        return "95 % interval"
    if key == "best":
        watched = {run.watch for run in runs_of(rows) if run.watch}
        return f"best {watched.pop()}" if len(watched) == 1 else "best"
    return HEADERS.get(key, names.get(key, key))


def text_table(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """Return the table for a screen; figures stand on the right."""
    names = short_names([key for key in columns if "/" not in key])
    header = [header_of(key, rows, names) for key in columns]
    lines = [[cell(row, key) for key in columns] for row in rows]
    right = frozenset(i for i, key in enumerate(columns) if is_figure(key))
    return table([header, *lines], right=right)


def is_figure(key: str) -> bool:
    """Tell if the cells of a column are figures."""
    return is_averaged(key) or key in ("epochs", COUNT) or key.endswith(INTERVAL)


def write_csv(file: TextIO, rows: Sequence[Row], columns: Sequence[str], is_grouped: bool) -> None:
    """Write the table as CSV with unrounded figures.

    Of a group there are also the standard deviation, half of the 95 % interval, and the number of
    values of each figure.
    """
    writer = csv.writer(file, lineterminator="\n")
    spread = [key for key in columns if is_grouped and is_averaged(key)]
    writer.writerow([*columns, *(f"{key} {name}" for key in spread for name in SPREAD)])
    for row in rows:
        values = [len(row.runs) if key == "runs" else row.value(key) for key in columns]
        for key in spread:
            values += spread_of(row.summary(key)).values()
        writer.writerow([as_field(value) for value in values])


def spread_of(summary: Summary) -> dict[str, float | None]:
    """Return the figures of `SPREAD`."""
    figures = (summary.std, summary.half_width, summary.n)
    return dict(zip(SPREAD, figures, strict=True))


def as_field(value: Any) -> str:
    """Return a value as a field of a CSV file; empty for none."""
    return "" if value is ABSENT else as_yaml(value)


def as_json_row(row: Row, root: Path, is_grouped: bool) -> dict[str, Any]:
    """Return a row for --json: a run with all that is known of it, or a group with its means."""
    if is_grouped:
        return as_json_group(row, root)
    return as_json_run(row.runs[0], root)


def as_json_group(row: Row, root: Path) -> dict[str, Any]:
    """Return the folders of a group's runs, what they have in common, and their figures."""
    figures: dict[str, dict[str, Any]] = {name: {} for name in ("mean", *SPREAD)}
    for key in figure_keys(row):
        summary = row.summary(key)
        figures["mean"][key] = summary.mean
        for name, value in spread_of(summary).items():
            figures[name][key] = value
    folders = [str(root / run.path) for run in row.runs]
    return {"runs": folders, "settings": common_settings(row), **figures}


def figure_keys(row: Row) -> list[str]:
    """Return the keys of a group's figures: metrics, time and rate."""
    metrics = {name for run in row.runs for name in run.metrics}
    return [*sorted(metrics), "best", "seconds", "samples_per_second"]


def common_settings(row: Row) -> dict[str, Any]:
    """Return the settings of a group's first run that all of its runs have."""
    settings = row.runs[0].settings
    return {key: value for key, value in settings.items() if row.value(key) is not ABSENT}


def as_json_run(run: RunSummary, root: Path) -> dict[str, Any]:
    """Return what is known of a run, without its configuration."""
    values = {**vars(run)}
    for name in ("config_text", "path", "sources", "directions", "key", "data"):
        del values[name]
    return {"run": str(root / run.path), **values}
