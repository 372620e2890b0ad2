"""The metric that decides which checkpoint is the best, and which way it is better."""

from __future__ import annotations

from typing import Any

from dltrain.config.checking.nodes import TARGET
from dltrain.config.policy import locate
from dltrain.config.schema import arguments
from dltrain.config.settings import Trainer
from dltrain.engine import Direction, Task
from dltrain.errors import ConfigError
from dltrain.tasks.directions import watch_direction


def task_defaults(config: dict[str, Any]) -> dict[str, Any]:
    """Return the defaults of the task's signature, by argument."""
    accepted = arguments(locate(config["task"][TARGET], config["plugins"]))
    return {name: a.default for name, a in accepted.items() if not a.required}


def watched_metric(config: dict[str, Any], trainer: Trainer) -> str:
    """Return the name of the watched metric: trainer.watch, or the task's default; "" for none."""
    if trainer.watch is not None:
        return trainer.watch
    default: str = task_defaults(config).get("watch", "")
    return default


def watched_direction(task: Task, config: dict[str, Any], trainer: Trainer) -> Direction:
    """Return which way the watched metric is better.

    A user's own task may declare it for its default metric by a default of its argument `mode`.
    Raises ConfigError if nothing declares it.
    """
    defaults = task_defaults(config)
    watch = task.watch if trainer.watch is None else trainer.watch
    mode = trainer.mode
    if mode is None and trainer.watch in (None, defaults.get("watch")):
        mode = defaults.get("mode")
    try:
        return watch_direction(task, watch, mode)
    except ValueError as e:
        raise ConfigError([(f"trainer.watch={watch}", str(e))]) from e
