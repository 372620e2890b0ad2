"""The metrics that the screen shows, and the notes beside them; files have all metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dltrain.report.text import number
from dltrain.types import ShownMetrics

MAX_FIGURES_SHOWN = 40  # on the screen


def shown_as(task: object, name: str) -> list[str]:
    """Return the metrics to show instead of `name`, such as val/rmse and val/r2 for val/mse."""
    split, slash, own = name.rpartition("/")
    if isinstance(task, ShownMetrics) and own in task.shown_as:
        return [f"{split}{slash}{other}" for other in task.shown_as[own]]
    return [name]


def note(task: object, name: str) -> str:
    """Return the note beside the metric `name`, in parentheses; empty if it has none."""
    own = name.rpartition("/")[2]
    if isinstance(task, ShownMetrics) and own in task.notes:
        return f"  ({task.notes[own]})"
    return ""


def figure_rows(
    task: object, figures: Mapping[str, float], elsewhere: str
) -> list[tuple[str, str]]:
    """Return name and text of each metric; after `MAX_FIGURES_SHOWN` one row about the others.

    `elsewhere` tells where the others are.
    """
    rows = [(name, f"{number(value)}{note(task, name)}") for name, value in figures.items()]
    if len(rows) <= MAX_FIGURES_SHOWN:
        return rows
    return [*rows[:MAX_FIGURES_SHOWN], (f"and {len(rows) - MAX_FIGURES_SHOWN:,} more", elsewhere)]


def best_row(task: object, best: Mapping[str, Any]) -> tuple[str, str]:
    """Return name and text of the best evaluation, with the metrics that are shown for it."""
    figures = {**best.get("metrics", {}), best["metric"]: best["value"]}
    shown = [name for name in shown_as(task, best["metric"]) if name in figures]
    first, *others = shown or [best["metric"]]
    more = "".join(f", {name} {number(figures[name])}" for name in others)
    return f"best {first}", f"{number(figures[first])}{more} (epoch {best['epoch']})"
