"""The rows of the table of runs: one run each, or the runs that differ only in their seed."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dltrain.config.schema import as_yaml
from dltrain.report.text import duration, number
from dltrain.runs.listing.conditions import is_number
from dltrain.runs.listing.summary import RunSummary
from dltrain.runs.listing.values import ABSENT, value_of

NOTHING = "-"  # in a cell without a value


@dataclass(frozen=True)
class Row:
    """One run, or a group of runs whose figures are averaged."""

    runs: Sequence[RunSummary]

    def value(self, key: str) -> Any:
        """Return the value of a key: the mean of figures, else what all runs have in common."""
        values = self.values(key)
        if is_averaged(key):
            return mean_of(self.figures(key))
        if len(values) == len(self.runs) and values.count(values[0]) == len(values):
            return values[0]
        return ABSENT

    def values(self, key: str) -> list[Any]:
        """Return the values of a key for the runs that have one."""
        values = [value_of(run, key) for run in self.runs]
        return [value for value in values if value is not ABSENT]

    def figures(self, key: str) -> list[float]:
        """Return the numbers among the values of a key.

        The best values of different metrics have no mean, so there are none.
        """
        if key == "best" and len(set(self.values("best/metric"))) > 1:
            return []
        return [value for value in self.values(key) if is_number(value)]

    def deviation(self, key: str) -> float | None:
        """Return the standard deviation of a figure over the runs (n - 1); None below two."""
        values = self.figures(key)
        if len(values) < 2:
            return None
        return statistics.stdev(values)

    def text(self, key: str) -> str:
        """Return the cell of a key: a figure, with its deviation if the runs are several."""
        if key == "status" and len(self.runs) > 1:
            return self._statuses()
        value = self.value(key)
        if value is ABSENT:
            return NOTHING
        return as_cell(key, value) + self._deviation_text(key)

    def _deviation_text(self, key: str) -> str:
        deviation = self.deviation(key)
        if deviation is None or not is_metric(key):
            return ""
        return f" ± {as_cell(key, deviation)}"

    def _statuses(self) -> str:
        counts = Counter(run.status for run in self.runs)
        return ", ".join(f"{count} {status}" for status, count in counts.items())


def mean_of(numbers: Sequence[float]) -> float | None:
    """Return the mean of numbers; None without any."""
    return statistics.fmean(numbers) if numbers else None


def is_metric(key: str) -> bool:
    """Tell if a key is a metric of a run."""
    return key == "best" or ("/" in key and not key.startswith("best/"))


def is_averaged(key: str) -> bool:
    """Tell if a key is a figure that has a mean: a metric, a time or a rate."""
    return is_metric(key) or key in ("seconds", "samples_per_second")


def as_cell(key: str, value: Any) -> str:
    """Return a value as the text of a cell."""
    if key == "seconds":
        return duration(value)
    if key == "samples_per_second":
        return f"{value:,.0f}"
    if is_averaged(key) and is_number(value):
        return number(value)
    return as_yaml(value)


def single_rows(runs: Sequence[RunSummary]) -> list[Row]:
    """Return a row for each run."""
    return [Row([run]) for run in runs]


def grouped_rows(runs: Sequence[RunSummary], keys: Sequence[str] = ()) -> list[Row]:
    """Return a row for the runs with the same values of `keys`; without keys, the same experiment.

    Runs are the same experiment if their configurations differ in nothing but the seed. A damaged
    run has a row of its own.
    """
    groups: dict[Any, list[RunSummary]] = {}
    for run in runs:
        if keys:
            group: Any = tuple(as_yaml(value_of(run, key)) for key in keys)
        else:
            group = run.identity or run.path
        groups.setdefault(group, []).append(run)
    return [Row(group) for group in groups.values()]


def sorted_rows(rows: Sequence[Row], key: str, descending: bool) -> list[Row]:
    """Return the rows in the order of a key's values: numbers, then texts; those without last."""
    figures = [row for row in rows if is_number(row.value(key))]
    without = [row for row in rows if row.value(key) is ABSENT]
    sorted_ids = {id(row) for row in [*figures, *without]}
    texts = [row for row in rows if id(row) not in sorted_ids]
    figures.sort(key=lambda row: float(row.value(key)), reverse=descending)
    texts.sort(key=lambda row: as_yaml(row.value(key)), reverse=descending)
    return [*figures, *texts, *without]
