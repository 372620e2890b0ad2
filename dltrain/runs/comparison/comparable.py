"""Comparisons of groups of runs where they can be compared: the same data, split, task and loss."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from dltrain.runs.comparison.groups import RunGroup, main_metrics
from dltrain.runs.comparison.verdicts import comparison
from dltrain.runs.identity import canonical
from dltrain.runs.listing.summary import RunSummary
from dltrain.types import flatten

LOSS = "/loss"  # ends the name of a metric that is the loss, which depends on its settings
OTHER_DATA = "groups with other data, splits, tasks or losses are not compared with each other"


@dataclass(frozen=True)
class Scored:
    """A group of runs, one of its runs, and the metric that the runs watch."""

    group: RunGroup
    run: RunSummary
    watched: str
    mode: str


def compared(groups: Sequence[Scored]) -> list[str]:
    """Return the sentences about the groups that can be compared with each other."""
    parts: dict[Hashable, list[Scored]] = {}
    for one in groups:
        parts.setdefault(basis_of(one), []).append(one)
    lines = [line for part in parts.values() for line in compared_part(part)]
    if lines and len(parts) > 1:
        lines.append(OTHER_DATA)
    return list(dict.fromkeys(lines))


def basis_of(one: Scored) -> Hashable:
    """Return what groups that are compared have in common."""
    metric = metric_of([one])
    if metric.endswith(LOSS):
        return one.run.data, canonical(flatten({"loss": one.run.config.get("loss")}))
    return one.run.data


def compared_part(part: Sequence[Scored]) -> list[str]:
    """Return the sentences about groups with the same data."""
    metric = metric_of(part)
    return comparison([one.group for one in part], metric, part[0].mode)


def metric_of(part: Sequence[Scored]) -> str:
    """Return the metric by which groups are compared; "" if they have none."""
    known = {name for one in part for name in one.group.scores}
    watched = next((one.watched for one in part if one.watched), "")
    on_folds = any(one.group.overlap > 0 for one in part)
    return next(iter(main_metrics(watched, known, on_folds)), "")
