"""The order of a sweep's trials by the metric that decides which of them is the best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dltrain.report.text import number
from dltrain.runs.folder import FINISHED, LATENCY, PARAMETERS
from dltrain.sweeps.trial import Row

SECONDS = "seconds"
OF_RUNS = (SECONDS, PARAMETERS, LATENCY)  # figures of a run that are no metrics


@dataclass(frozen=True)
class Criterion:
    """A metric by which trials are compared; `mode` is max or min."""

    metric: str
    mode: str

    def value(self, row: Row) -> float | None:
        """Return the metric's value for a trial; None if it has no finite one.

        That of the watched metric is its best evaluation.
        """
        value = self.raw_value(row)
        if value is None or not math.isfinite(value):
            return None
        return float(value)

    def raw_value(self, row: Row) -> Any:
        """Return the metric's value as the results of a trial have it."""
        best = row.get("best") or {}
        if best.get("metric") == self.metric:
            return best.get("value")
        if self.metric in OF_RUNS:
            return row.get(self.metric)
        return row["metrics"].get(self.metric)

    def text(self, row: Row) -> str:
        """Return the metric's value for a trial as it is shown; "" without one."""
        value = self.value(row)
        if value is None:
            return ""
        return f"{value:,.0f}" if self.metric == PARAMETERS else number(value)

    def cost(self, row: Row) -> float:
        """Return a number that is lower for better trials; infinite without a value."""
        value = self.value(row)
        if value is None:
            return math.inf
        return -value if self.mode == "max" else value


def watched_criteria(rows: Sequence[Row]) -> list[Criterion]:
    """Return the metric that all trials watch, in a list.

    It is empty if no trial has a result yet, or if they watch different metrics.
    """
    watched = watched_metrics(rows)
    return [Criterion(*watched[0])] if len(watched) == 1 else []


def watched_metrics(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Return the metrics that the trials watch, each with its mode."""
    bests = [row["best"] for row in rows if row.get("best")]
    return list(dict.fromkeys((best["metric"], best["mode"]) for best in bests))


def finished(rows: Sequence[Row]) -> list[Row]:
    """Return the trials that were trained and tested."""
    return [row for row in rows if row["status"] in FINISHED]


def best_first(rows: Sequence[Row], criterion: Criterion) -> list[Row]:
    """Return the trials in order: the finished ones, the best first, then the others."""
    done = finished(rows)
    others = [row for row in rows if row["status"] not in FINISHED]
    return [*sorted(done, key=criterion.cost), *sorted(others, key=criterion.cost)]


def best_rows(rows: Sequence[Row], criteria: Sequence[Criterion]) -> list[Row]:
    """Return the best finished trial; of several criteria the trials that none is better than.

    The first of equal trials counts.
    """
    if not criteria:
        return []
    known = comparable(rows, criteria)
    if len(criteria) == 1:
        return sorted(known, key=criteria[0].cost)[:1]
    costs = [tuple(one.cost(row) for one in criteria) for row in known]
    return [known[i] for i, cost in enumerate(costs) if is_on_front(cost, costs, i)]


def comparable(rows: Sequence[Row], criteria: Sequence[Criterion]) -> list[Row]:
    """Return the finished trials that have a value for every criterion."""
    return [row for row in finished(rows) if all(one.value(row) is not None for one in criteria)]


def is_on_front(cost: tuple[float, ...], costs: list[tuple[float, ...]], i: int) -> bool:
    """Tell if the costs of trial `i` are not those of an earlier one, and none dominates them."""
    return cost not in costs[:i] and not any(dominates(other, cost) for other in costs)


def dominates(costs: tuple[float, ...], others: tuple[float, ...]) -> bool:
    """Tell if costs are nowhere higher than others, and somewhere lower."""
    return costs != others and all(a <= b for a, b in zip(costs, others, strict=True))
