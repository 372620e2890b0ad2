"""The tables of a comparison, with a column for each run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dltrain.config.schema import as_yaml
from dltrain.report import network_figures
from dltrain.report.text import duration, number, table
from dltrain.runs.comparison.compared import ComparedRun
from dltrain.runs.comparison.differences import ABSENT, Difference, MetricDifference
from dltrain.runs.listing.conditions import is_number
from dltrain.runs.listing.values import date_of
from dltrain.shell import shell_word

MAX_VALUE_CHARS = 60
MISSING = "-"
BEST = " *"  # after the best value of a row
FORMATS: dict[str, Callable[[Any], str]] = {
    "seconds": duration,
    **network_figures.FORMATS,
    **dict.fromkeys(("samples_per_second", "steps", "parameters", "epochs"), lambda n: f"{n:,.0f}"),
}
TITLES = {"samples_per_second": "samples/s", "seconds": "time", **network_figures.TITLES}


def legend(runs: Sequence[ComparedRun]) -> str:
    """Return a line for each run: its letter, folder, status and date."""
    rows = [
        (run.label, shell_word(str(run.folder)), run.summary.status, date_of(run.summary))
        for run in runs
    ]
    return table(rows)


def difference_table(title: str, runs: Sequence[ComparedRun], rows: Sequence[Difference]) -> str:
    """Return the values of keys by run, under a title."""
    header = ["", *(run.label for run in runs)]
    lines = [[TITLES.get(row.key, row.key), *cells_of(row)] for row in rows]
    return f"\n{title}\n{table([header, *lines])}"


def cells_of(row: Difference) -> list[str]:
    """Return the values of a row as text."""
    return [as_cell(row.key, value) for value in row.values]


def as_cell(key: str, value: Any) -> str:
    """Return the value of a setting, a fact or a figure as the text of a cell."""
    if value is ABSENT or (value is None and key in FORMATS):
        return MISSING
    if key in FORMATS:
        return FORMATS[key](value)
    text = as_yaml(value)
    return text if len(text) <= MAX_VALUE_CHARS else f"{text[: MAX_VALUE_CHARS - 3]}..."


def metric_table(runs: Sequence[ComparedRun], rows: Sequence[MetricDifference]) -> str:
    """Return the metrics by run: of two runs with the change, of more with a mark at the best."""
    labels = [run.label for run in runs]
    if len(runs) == 2:
        header = ["", *labels, "change", "", "better"]
        return titled_table([header, *(pair_line(row, labels) for row in rows)])
    return titled_table([["", *labels], *([row.key, *marked(row)] for row in rows)])


def titled_table(lines: Sequence[Sequence[str]]) -> str:
    """Return the table of metrics, with figures on the right."""
    right = frozenset(i for i, title in enumerate(lines[0]) if i and title != "better")
    return f"\nmetrics\n{table(lines, right=right)}"


def pair_line(row: MetricDifference, labels: Sequence[str]) -> list[str]:
    """Return a metric of two runs: values, change, change in percent, and the better run."""
    better = "" if row.best is None else labels[row.best]
    return [row.key, *map(as_figure_text, row.values), signed(row.change), percent(row), better]


def marked(row: MetricDifference) -> list[str]:
    """Return the values of a metric, with a mark at the best one."""
    texts = [as_figure_text(value) + " " * len(BEST) for value in row.values]
    if row.best is not None:
        texts[row.best] = as_figure_text(row.values[row.best]) + BEST
    return texts


def as_figure_text(value: float | None) -> str:
    """Return a figure as text; a dash for none."""
    return MISSING if value is None else number(value)


def signed(change: float | None) -> str:
    """Return a change with its sign."""
    if change is None:
        return ""
    return f"+{number(change)}" if change > 0 else number(change)


def percent(row: MetricDifference) -> str:
    """Return the change in percent of the first value; "" if that is 0."""
    first = row.values[0]
    if row.change is None or not is_number(first) or not first:
        return ""
    return f"{100 * row.change / abs(first):+.1f} %"


def as_json_rows(
    runs: Sequence[ComparedRun], rows: Sequence[Difference | MetricDifference]
) -> dict[str, dict[str, Any]]:
    """Return {key: {label: value}}; a run without the key is left out."""
    return {row.key: by_label(runs, row.values) for row in rows}


def by_label(runs: Sequence[ComparedRun], values: Sequence[Any]) -> dict[str, Any]:
    """Return the values by the labels of the runs, without those that are absent."""
    pairs = [(run.label, value) for run, value in zip(runs, values, strict=True)]
    return {label: value for label, value in pairs if value is not ABSENT}
