"""Groups of the jobs of a sweep that differ only in their seed or fold, in a table and in words."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dltrain.report.text import number, table
from dltrain.runs.comparison.comparable import Scored, compared
from dltrain.runs.comparison.groups import (
    BEST,
    LEARNING,
    OVER,
    RunGroup,
    Unit,
    by_metric,
    main_metrics,
    overlap_of,
    unit_name,
)
from dltrain.runs.comparison.verdicts import sorted_groups
from dltrain.runs.folder import FINISHED
from dltrain.runs.identity import FOLD_KEY, FOLDS_KEY
from dltrain.runs.listing.folders import FoundFolder
from dltrain.runs.listing.index import read
from dltrain.runs.listing.summary import RunSummary
from dltrain.runs.listing.values import value_of
from dltrain.sweeps.names import label_of, values_by_key

ALL = "all"  # the label of the only group
NOTHING = "-"  # in a cell without a value
RETURN = "train/return"  # of the episodes in which an agent learns
SPLITS = ("val/", "test/")  # of the metrics that are summarized
Row = Mapping[str, Any]


def keys_that_differ(rows: Sequence[Row]) -> list[str]:
    """Return the keys whose values differ between jobs, in the order of their overrides."""
    settings = [values_by_key(row["overrides"]) for row in rows]
    keys = dict.fromkeys(itertools.chain.from_iterable(settings))
    return [key for key in keys if len({one.get(key) for one in settings}) > 1]


def groups_of(
    rows: Sequence[Row], swept: Sequence[str], over: Sequence[str] = OVER
) -> list[RunGroup]:
    """Return the groups of jobs that differ only in the keys of `over`, in the order of the jobs.

    Args:
        rows: The results of the jobs; those of unfinished jobs are only counted.
        swept: The keys whose values differ between the jobs.
        over: The keys that make no other group: the seed and the fold.
    """
    units = units_in(swept, over)
    overlap = overlap_in(rows, units)
    members = members_of(rows, swept, units).values()
    return [group_of(group, swept, units, overlap) for group in members]


def units_in(swept: Sequence[str], over: Sequence[str]) -> list[str]:
    """Return the keys that make the jobs of a group."""
    return [key for key in over if key in swept]


def overlap_in(rows: Sequence[Row], units: Sequence[str]) -> float:
    """Return test over training samples of the folds in which jobs differ; 0 without folds."""
    held_out = {settings_of(row, units).get(FOLD_KEY) for row in rows}
    started = [row for row in rows if "run" in row]
    if len(held_out) < 2 or not started:
        return overlap_of(len(held_out))
    return overlap_of(len(held_out), value_of(run_of(started[0]), FOLDS_KEY))


def run_of(row: Row) -> RunSummary:
    """Return the summary of a job's run."""
    folder = Path(row.get("run", ""))
    return read(folder.parent, FoundFolder(folder.name, "", is_running=False))


def members_of(
    rows: Sequence[Row], swept: Sequence[str], units: Sequence[str]
) -> dict[tuple[str, ...], list[Row]]:
    """Return the jobs of each group, by the values that they have in common."""
    keys = [key for key in swept if key not in units]
    members: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        members.setdefault(tuple(settings_of(row, keys).values()), []).append(row)
    return members


def settings_of(row: Row, keys: Sequence[str]) -> dict[str, str]:
    """Return the values of keys in a job; a dash for one that it does not set."""
    values = values_by_key(row["overrides"])
    return {key: values.get(key, NOTHING) for key in keys}


def group_of(
    rows: Sequence[Row], swept: Sequence[str], units: Sequence[str], overlap: float
) -> RunGroup:
    """Return the group of jobs that have the same values of all swept keys but `units`."""
    settings = settings_of(rows[0], [key for key in swept if key not in units])
    scores = {unit_of(row, units): scores_of(row) for row in finished(rows)}
    label = label_of(list(settings), settings) or ALL
    unit = unit_name(units or OVER[:1])
    return RunGroup(label, settings, len(rows), by_metric(scores), unit, overlap)


def unit_of(row: Row, units: Sequence[str]) -> Unit:
    """Return the seed of a job, its fold, or both."""
    return tuple(settings_of(row, units).values())


def finished(rows: Sequence[Row]) -> list[Row]:
    """Return the jobs that were trained and tested."""
    return [row for row in rows if row["status"] in FINISHED]


def scores_of(row: Row) -> dict[str, float]:
    """Return the finite scores of a job; the best of the watched metric is `best val/...`."""
    metrics: dict[str, Any] = row.get("metrics") or {}
    scores = {name: value for name, value in metrics.items() if name.startswith(SPLITS)}
    best = row.get("best") or {}
    if best:
        scores[f"{BEST}{best['metric']}"] = best.get("value")
    if RETURN in metrics:
        scores[LEARNING] = mean_in_training(Path(row.get("run", "")), RETURN)
    return {name: value for name, value in scores.items() if is_finite(value)}


def mean_in_training(run: Path, metric: str) -> float | None:
    """Return the mean of a metric over all records of a run; None without any."""
    from dltrain.report import curves

    values = list(curves.series(run, metric).values())
    return sum(values) / len(values) if values else None


def is_finite(value: float | None) -> bool:
    """Tell if a value is a number that is not infinite."""
    return value is not None and math.isfinite(value)


def groups_report(rows: Sequence[Row], swept: Sequence[str], over: Sequence[str] = OVER) -> str:
    """Return a table of the groups, and sentences that compare them.

    It is "" if no group has two jobs, or no job finished.
    """
    groups = groups_of(rows, swept, over)
    watched, mode = watched_of(rows)
    if not watched or max(group.started for group in groups) < 2:
        return ""
    text = groups_table(groups, watched, mode, header_of(swept, over))
    lines = comparisons(groups, rows, swept, over)
    return "\n".join([text, *(f"  {line}" for line in lines)])


def header_of(swept: Sequence[str], over: Sequence[str]) -> str:
    """Return the keys that make the groups."""
    return ", ".join(key for key in swept if key not in over) or "jobs"


def comparisons(
    groups: Sequence[RunGroup], rows: Sequence[Row], swept: Sequence[str], over: Sequence[str]
) -> list[str]:
    """Return the sentences that compare the groups of jobs."""
    members = members_of(rows, swept, units_in(swept, over)).values()
    pairs = zip(groups, members, strict=True)
    return compared([scored(group, jobs) for group, jobs in pairs if finished(jobs)])


def watched_of(rows: Sequence[Row]) -> tuple[str, str]:
    """Return the metric that the first finished job watched, and its mode; "" if none did."""
    for row in finished(rows):
        if row.get("best"):
            return row["best"]["metric"], row["best"].get("mode", "")
    return "", ""


def scored(group: RunGroup, jobs: Sequence[Row]) -> Scored:
    """Return a group with what says whether it can be compared: its first finished run."""
    return Scored(group, run_of(finished(jobs)[0]), *watched_of(jobs))


def groups_table(groups: Sequence[RunGroup], watched: str, mode: str, header: str) -> str:
    """Return a table with a row per metric and group: mean, deviation, interval and number.

    The groups are in the order of the first metric, the best first.
    """
    on_folds = any(group.overlap > 0 for group in groups)
    names = main_metrics(watched, {name for group in groups for name in group.scores}, on_folds)
    ordered = sorted_groups(groups, next(iter(names), ""), mode)
    ordered += [group for group in groups if group not in ordered]
    lines = [[header, "metric", "mean", "std", "95 % interval", f"{groups[0].unit}s"]]
    lines += [group_line(group, name) for name in names for group in ordered]
    return table(lines, right=frozenset(range(2, 6)))


def group_line(group: RunGroup, metric: str) -> list[str]:
    """Return the cells of a group's row."""
    summary = group.summary(metric)
    figures = [figure(summary.mean), figure(summary.std), interval(summary.low, summary.high)]
    return [group.label, metric, *figures, count_text(summary.n, group.started)]


def figure(value: float | None) -> str:
    """Return a figure as text; a dash for none."""
    return NOTHING if value is None else number(value)


def interval(low: float | None, high: float | None) -> str:
    """Return an interval as text; a dash for none."""
    if low is None or high is None:
        return NOTHING
    return f"{number(low)} to {number(high)}"


def count_text(counted: int, started: int) -> str:
    """Return how many jobs count: 5, or 3 of 5."""
    return str(started) if counted == started else f"{counted} of {started}"
