"""The Pareto front of a sweep with two objectives: the trials that none is better than.

It is a table at the end of the sweep, and a picture in its folder.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from dltrain.files import replace_file
from dltrain.report.text import table
from dltrain.runs.folder import LATENCY, PARAMETERS
from dltrain.sweeps.jobs.job import PRUNED
from dltrain.sweeps.summary.ranking import Criterion, best_rows, comparable
from dltrain.sweeps.summary.tables import decisive_metrics, figure_of, settings_of
from dltrain.sweeps.trial import Row
from dltrain.types import Plot

log = logging.getLogger("dltrain")
FILE = "front.png"
LOGARITHMIC = (PARAMETERS, LATENCY)  # objectives that are compared by their ratio
MAX_LINES = 20  # of the table


def has_front(criteria: Sequence[Criterion]) -> bool:
    """Tell if trials are compared by two objectives."""
    return len(criteria) == 2


def front_rows(rows: Sequence[Row], criteria: Sequence[Criterion]) -> list[Row]:
    """Return the trials on the front, the cheapest first by the second objective."""
    return sorted(best_rows(rows, criteria), key=criteria[1].cost)


def front_lines(
    rows: Sequence[Row], swept: Sequence[str], criteria: Sequence[Criterion]
) -> list[str]:
    """Return a table of the trials on the front, with a title; [] without two objectives."""
    if not has_front(criteria):
        return []
    front = front_rows(rows, criteria)
    if not front:
        return []
    names = decisive_metrics(front, criteria)
    cells = [["trial", *names, "settings"]]
    for row in front[:MAX_LINES]:
        figures = [figure_of(row, name, criteria) for name in names]
        cells.append([str(row["job"]), *figures, settings_of(row, swept)])
    right = frozenset(range(1, 1 + len(names)))
    lines = [front_title(criteria), table(cells, right=right)]
    if len(front) > MAX_LINES:
        lines.append(f"  and {len(front) - MAX_LINES} further trials")
    return lines


def front_title(criteria: Sequence[Criterion]) -> str:
    """Return the title of the front."""
    first, second = criteria
    return f"Pareto front of {first.metric} against {second.metric}"


def front_plot(rows: Sequence[Row], criteria: Sequence[Criterion]) -> Plot | None:
    """Return a diagram of all trials and the front; None if no trial has both figures."""
    first, second = criteria
    front = front_rows(rows, criteria)
    if not front:
        return None
    pruned = [row for row in rows if row["status"] == PRUNED and has_values(row, criteria)]
    groups = {"pruned trials": pruned, "trials": comparable(rows, criteria)}
    lines = {name: points(members, criteria) for name, members in groups.items() if members}
    scattered = tuple(lines)
    lines["Pareto front"] = points(front, criteria)
    return Plot(
        lines,
        front_title(criteria),
        second.metric,
        first.metric,
        scattered=scattered,
        log_x=second.metric in LOGARITHMIC,
    )


def has_values(row: Row, criteria: Sequence[Criterion]) -> bool:
    """Tell if a trial has a figure for each objective."""
    return all(one.value(row) is not None for one in criteria)


def points(rows: Sequence[Row], criteria: Sequence[Criterion]) -> tuple[list[float], list[float]]:
    """Return the second objective of trials, and the first."""
    first, second = criteria
    return [second.value(row) or 0.0 for row in rows], [first.value(row) or 0.0 for row in rows]


def write_front(sweep: Path, rows: Sequence[Row], criteria: Sequence[Criterion]) -> dict[str, str]:
    """Draw the front into the sweep's folder; return its path for --json, {} without a front.

    A full disk costs a warning.
    """
    from dltrain.report.drawing import as_png
    from dltrain.report.plots import plot

    drawn = front_plot(rows, criteria) if has_front(criteria) else None
    if drawn is None:
        return {}
    path = sweep / FILE
    try:
        replace_file(path, as_png(plot(drawn)))
    except OSError as e:
        log.warning(f"{path} cannot be written: {e.strerror or e}")
        return {}
    return {"front": str(path)}
