"""The rows of the table of runs: one run each, or the runs that differ only in their seed."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from dltrain.config.schema import as_yaml
from dltrain.report.text import duration, number
from dltrain.runs.comparison.groups import FOLD_KEY, SEED, overlap_of
from dltrain.runs.identity import FOLDS_KEY, identity
from dltrain.runs.listing.conditions import is_number
from dltrain.runs.listing.summary import RunSummary
from dltrain.runs.listing.values import ABSENT, value_of
from dltrain.statistics import Summary, summarize

NOTHING = "-"  # in a cell without a value


@dataclass(frozen=True)
class Row:
    """One run, or a group of runs whose figures are averaged."""

    runs: Sequence[RunSummary]

    def value(self, key: str) -> Any:
        """Return the value of a key: the mean of figures, else what all runs have in common."""
        values = self.values(key)
        if is_averaged(key):
            return self.summary(key).mean
        if len(values) == len(self.runs) and values.count(values[0]) == len(values):
            return values[0]
        return ABSENT

    def values(self, key: str) -> list[Any]:
        """Return the values of a key for the runs that have one."""
        values = [value_of(run, key) for run in self.runs]
        return [value for value in values if value is not ABSENT]

    @cached_property
    def counted(self) -> Sequence[RunSummary]:
        """The runs whose figures count: those that finished; all if none has."""
        return finished_runs(self.runs) or self.runs

    @cached_property
    def is_repetition(self) -> bool:
        """True if the runs differ in nothing but their seed and fold."""
        if len({run.identity for run in self.counted}) == 1:
            return True
        if len(self.folds) < 2:
            return False
        return len({identity(run.config, without=(SEED, FOLD_KEY)) for run in self.counted}) == 1

    @cached_property
    def folds(self) -> set[Any]:
        """The folds that were held out, of runs in a cross-validation."""
        return {value_of(run, FOLD_KEY) for run in self.counted} - {ABSENT}

    @cached_property
    def overlap(self) -> float:
        """Test over training samples of the folds; 0 without a cross-validation."""
        return overlap_of(len(self.folds), value_of(self.counted[0], FOLDS_KEY))

    def unit(self, run: RunSummary) -> Hashable:
        """Return what one value of a figure belongs to: a seed and fold, of one configuration."""
        if run.seed is None:
            return run.path
        if self.is_repetition:
            return run.seed, value_of(run, FOLD_KEY)
        return run.seed, run.identity

    def scores(self, key: str) -> dict[Hashable, float]:
        """Return the numbers among the values of a key, one for each seed and fold.

        Runs that repeat a seed are no independent runs: their mean counts once. The best values of
        different metrics have no mean, so there are none.
        """
        if key == "best" and len(set(self.values("best/metric"))) > 1:
            return {}
        by_unit: dict[Hashable, list[float]] = {}
        for run in self.counted:
            value = value_of(run, key)
            if is_number(value):
                by_unit.setdefault(self.unit(run), []).append(value)
        return {unit: statistics.fmean(values) for unit, values in by_unit.items()}

    def summary(self, key: str) -> Summary:
        """Return the summary of a figure; without an interval if other settings differ too."""
        summary = summarize(self.scores(key).values(), self.overlap)
        if self.is_repetition:
            return summary
        return Summary(summary.n, summary.mean, summary.std)

    def text(self, key: str) -> str:
        """Return the cell of a key: a figure, with its deviation if the runs are several."""
        if key == "status" and len(self.runs) > 1:
            return self._statuses()
        value = self.value(key)
        if value is ABSENT:
            return NOTHING
        return as_cell(key, value) + self._deviation_text(key)

    def _deviation_text(self, key: str) -> str:
        summary = self.summary(key)
        if summary.std is None or not is_metric(key):
            return ""
        text = f" ± {as_cell(key, summary.std)}"
        if summary.n < self.count:
            text += f" (n = {summary.n})"
        return text

    @property
    def count(self) -> int:
        """The number of seeds and folds that count."""
        return len({self.unit(run) for run in self.counted})

    def _statuses(self) -> str:
        counts = Counter(run.status for run in self.runs)
        return ", ".join(f"{count} {status}" for status, count in counts.items())


def finished_runs(runs: Sequence[RunSummary]) -> list[RunSummary]:
    """Return the runs that were trained and tested."""
    return [run for run in runs if run.is_finished]


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
    run has a row of its own. Runs with other data, splits or tasks are never in one row.
    """
    groups: dict[Any, list[RunSummary]] = {}
    for run in runs:
        if keys:
            group: Any = (*(as_yaml(value_of(run, key)) for key in keys), run.data)
        else:
            group = (run.identity, run.data) if run.identity else run.path
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
