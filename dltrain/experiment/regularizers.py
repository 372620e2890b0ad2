"""Collects the settings that regularization choices make for other parts of an experiment."""

from __future__ import annotations

from typing import Any

from dltrain.errors import ConfigError
from dltrain.experiment.instantiate import instantiate

PARTS = ("model", "loss", "dataset", "optim", "callbacks")  # that a regularizer may set


def regularizer_settings(nodes: dict[str, Any], plugins: list[str]) -> dict[str, dict[str, Any]]:
    """Return what the regularizers set, by part: {"model": {"dropout": 0.5}, "optim": {...}, ...}.

    Lists for one setting are joined. Raises ConfigError if two choices set the same value.
    """
    settings: dict[str, dict[str, Any]] = {part: {} for part in PARTS}
    for name, node in nodes.items():
        regularizer = instantiate(node, f"regularization.{name}", {}, plugins)
        for destination, value in regularizer.settings().items():
            part, _, key = destination.partition(".")
            earlier = settings[part].get(key)
            if isinstance(value, list):
                settings[part][key] = [*(earlier or []), *value]
            elif earlier is None:
                settings[part][key] = value
            else:
                why = f"{destination} is set by another choice already"
                raise ConfigError([(f"regularization.{name}", why)])
    return settings
