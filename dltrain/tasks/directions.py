"""The direction of a metric: the highest value is the best, or the lowest.

Each task declares it for every metric of its evaluation. It is never guessed from a name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol, runtime_checkable

from dltrain.engine import Direction, Task

SPLIT = "val/"  # only metrics of the validation split are watched


@runtime_checkable
class DeclaresDirection(Protocol):
    """A user's metric that declares its direction, as the metrics of torchmetrics do."""

    higher_is_better: bool | None


def custom_direction(metric: Callable[..., Any]) -> Direction | None:
    """Return the direction of a user's metric; None if it does not declare `higher_is_better`."""
    declared = metric.func if isinstance(metric, partial) else metric
    if not isinstance(declared, DeclaresDirection):
        return None
    if declared.higher_is_better is None:
        return None
    return "max" if declared.higher_is_better else "min"


def watch_direction(task: Task, watch: str, mode: Direction | None) -> Direction:
    """Return the direction of the watched metric of `task`: `mode`, or what the task declares.

    Raises:
        ValueError: The task has no such metric, or the metric has no direction.
    """
    if mode is not None:
        return mode
    if not watch:
        return "max"
    directions = task.directions()
    name = watch.removeprefix(SPLIT)
    if not watch.startswith(SPLIT) or name not in directions:
        raise ValueError(f"{watch} is not one of the metrics: {metric_list(directions)}")
    direction = directions[name]
    if direction is None:
        raise ValueError(
            f"{watch} does not declare which way it is better: set trainer.mode=max or "
            "trainer.mode=min (a metric of your own declares it by an attribute "
            "higher_is_better = True or False)"
        )
    return direction


def metric_list(directions: Mapping[str, Direction | None]) -> str:
    """Return the names of all metrics, spelled as trainer.watch expects them."""
    return ", ".join(f"{SPLIT}{name}" for name in directions)
