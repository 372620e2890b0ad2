"""Which way a metric is better: the highest value is the best, or the lowest.

Each task declares it for every metric that its evaluation gives. It is never guessed from a name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol, runtime_checkable

from dltrain.engine import Direction, Task

SPLIT = "val/"  # the only split that is watched


@runtime_checkable
class Directed(Protocol):
    """A metric of the user's own that declares which way it is better, as those of torchmetrics do."""

    higher_is_better: bool | None


def own_direction(metric: Callable[..., Any]) -> Direction | None:
    """Return which way a metric of the user's own is better; None if it does not declare
    `higher_is_better`.
    """
    declared = metric.func if isinstance(metric, partial) else metric
    if not isinstance(declared, Directed) or declared.higher_is_better is None:
        return None
    return "max" if declared.higher_is_better else "min"


def better(task: Task, watch: str, mode: Direction | None) -> Direction:
    """Return which way the watched metric of `task` is better: `mode`, or what the task declares.

    Raises ValueError, with what to do, for a metric that the task does not have, and for one
    without a better way.
    """
    if mode is not None or not watch:
        return mode or "max"
    directions = task.directions()
    name = watch.removeprefix(SPLIT)
    if not watch.startswith(SPLIT) or name not in directions:
        raise ValueError(f"{watch} is not one of the metrics: {listed(directions)}")
    direction = directions[name]
    if direction is None:
        raise ValueError(
            f"{watch} does not declare which way it is better: set trainer.mode=max or trainer.mode=min "
            "(a metric of your own declares it by an attribute higher_is_better = True or False)"
        )
    return direction


def listed(directions: Mapping[str, Direction | None]) -> str:
    """Return the names of all metrics, as they are watched."""
    return ", ".join(f"{SPLIT}{name}" for name in directions)
