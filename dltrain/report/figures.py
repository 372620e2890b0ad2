"""The figures of a task that the screen shows first, and the notes beside them; files hold all of
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dltrain.report.text import number
from dltrain.types import ShownMetrics

MAX_FIGURES_SHOWN = 40  # on the screen


def shown_as(task: object, name: str) -> list[str]:
    """Return the figures to show in the place of `name`, such as val/rmse and val/r2 in that of
    val/mse.
    """
    split, slash, own = name.rpartition("/")
    if isinstance(task, ShownMetrics) and own in task.shown_as:
        return [f"{split}{slash}{other}" for other in task.shown_as[own]]
    return [name]


def note(task: object, name: str) -> str:
    """Return the note beside the figure `name`, in brackets; empty if its name needs none."""
    own = name.rpartition("/")[2]
    return f"  ({task.notes[own]})" if isinstance(task, ShownMetrics) and own in task.notes else ""


def figure_rows(
    task: object, figures: Mapping[str, float], elsewhere: str
) -> list[tuple[str, str]]:
    """Return the name and the text of each figure; of very many the first, and a row that says
    where the others are.
    """
    rows = [(name, f"{number(value)}{note(task, name)}") for name, value in figures.items()]
    if len(rows) <= MAX_FIGURES_SHOWN:
        return rows
    return [*rows[:MAX_FIGURES_SHOWN], (f"and {len(rows) - MAX_FIGURES_SHOWN:,} more", elsewhere)]


def best_row(task: object, best: Mapping[str, Any]) -> tuple[str, str]:
    """Return the name and the text of the best evaluation: its metric, or the figures that stand
    for it.
    """
    figures = {**best.get("metrics", {}), best["metric"]: best["value"]}
    first, *others = [name for name in shown_as(task, best["metric"]) if name in figures] or [
        best["metric"]
    ]
    more = "".join(f", {name} {number(figures[name])}" for name in others)
    return f"best {first}", f"{number(figures[first])}{more} (epoch {best['epoch']})"
