"""Compares the records of two runs metric by metric: to the bit, or within a tolerance."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from dltrain.errors import InputError
from dltrain.runs.folder import FINISHED, METRICS, RESULTS, RunFolder

PLACE = ("step", "epoch", "stage", "split")  # the keys of a record that are no metrics
IDENTICAL = "identical"
DIFFERENT = "differs"
Record: TypeAlias = dict[str, Any]
Key: TypeAlias = tuple[int, str, str, int]
"""The step, stage and split of a record, and the number of earlier records with the same three."""


@dataclass(frozen=True)
class RecordDifference:
    """Two values of a metric at a step; `relative` is their difference over the larger one.

    A value is None where it was not finite, or where the record is missing.
    """

    step: int
    split: str
    metric: str
    then: float | None
    now: float | None
    relative: float

    def __str__(self) -> str:
        return f"{self.metric} at step {self.step}: {shown(self.then)} then, {shown(self.now)} now"


@dataclass
class MetricComparison:
    """The values of one metric: the last ones, and the largest relative difference of all."""

    then: float | None = None
    now: float | None = None
    difference: float = 0.0
    records: int = 0

    def add(self, one: RecordDifference) -> None:
        """Take the next record into account."""
        self.then = one.then
        self.now = one.now
        self.difference = max(self.difference, one.relative)
        self.records += 1

    def verdict(self, tolerance: float) -> str:
        """Return whether the metric is the same, within a tolerance, or not."""
        if self.difference == 0:
            return IDENTICAL
        return f"within {tolerance:g}" if self.difference <= tolerance else DIFFERENT


@dataclass
class Comparison:
    """Every metric of two runs by name, and all values that differ in the order of the records."""

    metrics: dict[str, MetricComparison] = field(default_factory=dict)
    differences: list[RecordDifference] = field(default_factory=list)
    records: int = 0

    def add(self, one: RecordDifference) -> None:
        """Take the next value into account."""
        self.metrics.setdefault(one.metric, MetricComparison()).add(one)
        if one.relative > 0:
            self.differences.append(one)

    def first(self, tolerance: float) -> RecordDifference | None:
        """Return the first value that differs by more than a tolerance; None if none does."""
        beyond = (one for one in self.differences if one.relative > tolerance)
        return next(beyond, None)


def read_records(run: RunFolder) -> list[Record]:
    """Return what a run has logged, and the test's results of a finished run as a last record.

    Raises InputError if there is nothing.
    """
    path = run.folder / METRICS
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    records = [parsed(line, run) for line in lines if line.endswith("\n")]
    if not records:
        raise InputError(f"{run.folder} has logged nothing yet that could be reproduced")
    return [*records, *test_record(run, records[-1])]


def parsed(line: str, run: RunFolder) -> Record:
    """Return a line of the log; InputError if it is damaged."""
    try:
        record = json.loads(line)
        _ = place(record)
    except (ValueError, KeyError, TypeError) as e:
        raise InputError(f"{run.folder / METRICS} is damaged: {line[:60]!r}") from e
    return dict(record)


def test_record(run: RunFolder, last: Record) -> list[Record]:
    """Return the results of the test, if the run is finished and was tested."""
    results = run.read_json(RESULTS)
    metrics = results.get("metrics", {})
    scores = {name: value for name, value in metrics.items() if name.startswith("test/")}
    if not scores or results.get("status") not in FINISHED:
        return []
    return [{"step": last["step"], "stage": last["stage"], "split": "test", **scores}]


def place(record: Record) -> tuple[int, str, str]:
    """Return the step, the stage and the split of a record."""
    return int(record["step"]), str(record["stage"]), str(record["split"])


def keyed_records(records: Iterable[Record]) -> dict[Key, Record]:
    """Return records by their keys."""
    counts: Counter[tuple[int, str, str]] = Counter()
    keyed = {}
    for record in records:
        where = place(record)
        keyed[(*where, counts[where])] = record
        counts[where] += 1
    return keyed


def compared(then: Iterable[Record], now: Iterable[Record]) -> Comparison:
    """Return how the records of a run differ from those of the run that reproduces it.

    Records and metrics that only the later run has are left out.
    """
    earlier = keyed_records(then)
    later = keyed_records(now)
    comparison = Comparison(records=len(earlier))
    for key, record in earlier.items():
        for one in differences(record, later.get(key, {})):
            comparison.add(one)
    return comparison


def differences(then: Record, now: Record) -> Iterable[RecordDifference]:
    """Yield the values of each metric of a record."""
    step, _, split = place(then)
    for name in [key for key in then if key not in PLACE]:
        relative = relative_difference(then[name], now.get(name, math.inf))
        yield RecordDifference(step, split, name, then[name], now.get(name), relative)


def relative_difference(one: float | None, other: float | None) -> float:
    """Return the difference of two values over the larger one; infinity if only one is finite."""
    if one == other:
        return 0.0
    if one is None or other is None or math.isinf(other):
        return math.inf
    return abs(one - other) / max(abs(one), abs(other))


def shown(value: float | None) -> str:
    """Return a value with enough digits to compare; a dash without one."""
    return "-" if value is None else f"{value:.7g}"
