"""The tables of a sweep on the screen: of all trials at its end, and of the best ones so far."""

from __future__ import annotations

from collections.abc import Sequence

from dltrain.report.text import duration, number
from dltrain.runs.comparison.groups import INSTEAD
from dltrain.runs.folder import FINISHED
from dltrain.sweeps.names import label_of, values_by_key
from dltrain.sweeps.summary.best import test_counterpart
from dltrain.sweeps.summary.columns import MIN_CELLS, cut_table
from dltrain.sweeps.summary.ranking import Criterion, best_first
from dltrain.sweeps.trial import Row
from dltrain.terminal import cut

MAX_ROWS = (
    40  # of the table at the end; of longer sweeps it has the best ones, and those that failed
)
BEST_ROWS = 20
MAX_STATUS_CHARS = 70
MIN_STATUS_CELLS = 20
MIN_SETTINGS_CELLS = 20  # of the column with the swept values
NO_VALUE = "-"
COLUMNS = (
    "test/accuracy",
    "test/loss",
    "train/gradient_ratio",
    "train/dead_units",
    "train/saturated_units",
)


def overview(
    rows: Sequence[Row],
    swept: Sequence[str],
    criteria: Sequence[Criterion],
    width: int | None = None,
) -> str:
    """Return a table with a row per trial: the swept values, the status, and the main figures."""
    names = shown_metrics(rows, criteria)
    lines = [["job", *swept, "status", *names, "time"]]
    for row in rows:
        values = values_by_key(row["overrides"])
        line = [str(row["job"])]
        line += [values.get(key, NO_VALUE) for key in swept]
        line.append(status_of(row))
        line += [figure_of(row, name, criteria) for name in names]
        line.append(time_of(row))
        lines.append(line)
    status = len(swept) + 1
    last = len(lines[0]) - 1
    minor = reversed(range(status + 1 + max(1, len(criteria)), last))
    keys = reversed(range(1, status))
    may_cut = dict.fromkeys(range(1, status), MIN_CELLS) | {status: MIN_STATUS_CELLS}
    return cut_table(lines, width, may_cut, [*minor, last, *keys])


def shortened(rows: Sequence[Row], criteria: Sequence[Criterion]) -> list[Row]:
    """Return the rows to show at the end: all, or of a long sweep the best and the failed ones."""
    if len(rows) <= MAX_ROWS:
        return list(rows)
    ordered = list(rows)
    if criteria:
        ordered = best_first(rows, criteria[0])
    best = [row for row in ordered if row["status"] in FINISHED][:BEST_ROWS]
    return [*best, *(row for row in rows if has_failed(row))]


def has_failed(row: Row) -> bool:
    """Tell if a trial ended without results."""
    return row["status"] in ("failed", "diverged", "interrupted")


def best_so_far(
    rows: Sequence[Row],
    swept: Sequence[str],
    criteria: Sequence[Criterion],
    count: int,
    width: int | None,
    encoding: str = "utf-8",
) -> str:
    """Return a table of at most `count` trials, the best one first, each with its swept values."""
    if not criteria:
        return ""
    names = decisive_metrics(rows, criteria)
    lines = [["trial", *names, "time", "status", "settings"]]
    for row in best_first(rows, criteria[0])[:count]:
        line = [str(row["job"])]
        line += [figure_of(row, name, criteria) for name in names]
        line += [time_of(row), row["status"], settings_of(row, swept)]
        lines.append(line)
    last = len(lines[0]) - 1
    minor = [last - 1, last - 2, *reversed(range(2, last - 2))]
    return cut_table(lines, width, {last: MIN_SETTINGS_CELLS}, minor, encoding)


def decisive_metrics(rows: Sequence[Row], criteria: Sequence[Criterion]) -> list[str]:
    """Return the metrics that decide, and the test's counterpart of the first if trials have it."""
    names = [one.metric for one in criteria]
    tested = test_counterpart(names[0])
    if any(tested in row["metrics"] for row in rows):
        names.append(tested)
    return list(dict.fromkeys(names))


def settings_of(row: Row, swept: Sequence[str]) -> str:
    """Return the swept values of a trial with short names, as in model=cnn lr=0.001."""
    values = values_by_key(row["overrides"])
    return label_of([key for key in swept if key in values], values)


def figure_of(row: Row, metric: str, criteria: Sequence[Criterion] = ()) -> str:
    """Return a metric of a trial as text; a dash if it has none."""
    for criterion in criteria:
        if criterion.metric == metric:
            return criterion.text(row) or NO_VALUE
    if metric not in row["metrics"]:
        return NO_VALUE
    return number(row["metrics"][metric])


def time_of(row: Row) -> str:
    """Return how long a trial took; a dash if it failed before its end."""
    if "seconds" not in row:
        return NO_VALUE
    return duration(row["seconds"])


def status_of(row: Row) -> str:
    """Return a trial's status, with the first line of the reason if it failed."""
    status: str = row["status"]
    reason = first_line(row)
    if reason.startswith(status):  # pruned after evaluation 2 of 3: val/accuracy 0.7
        status = reason.partition(":")[0]
    elif reason:
        status = f"{status}: {reason}"
    return cut(status, MAX_STATUS_CHARS)


def first_line(row: Row) -> str:
    """Return the first line of the reason why a trial did not complete; "" without one."""
    lines = (row.get("reason") or "").splitlines()
    return lines[0] if lines else ""


def shown_metrics(rows: Sequence[Row], criteria: Sequence[Criterion] = ()) -> list[str]:
    """Return the metrics with columns: those that decide, those of the test, and known ones."""
    decisive = [one.metric for one in criteria]
    names = [*decisive, *tested_metrics(rows), *COLUMNS]
    known = set(decisive).union(*(row["metrics"] for row in rows))
    return [name for name in dict.fromkeys(names) if name in known]


def tested_metrics(rows: Sequence[Row]) -> list[str]:
    """Return the metrics of the test that belong to what the trials watch."""
    names: list[str] = []
    for row in rows:
        tested = test_counterpart((row.get("best") or {}).get("metric", ""))
        names += INSTEAD.get(tested, (tested,))
    return names
