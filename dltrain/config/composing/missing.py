"""Keys whose value is `???`, Hydra's mark of a value that must be typed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dltrain.config.overrides import Problem
from dltrain.config.schema import type_problem
from dltrain.config.suggestions.suggest import argument_of

MISSING = "???"


def missing_keys(node: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the dotted keys of a plain configuration whose value must be typed."""
    keys = []
    for name, value in node.items():
        key = f"{prefix}{name}"
        if value == MISSING:
            keys.append(key)
        elif isinstance(value, Mapping):
            keys += missing_keys(value, f"{key}.")
    return keys


def missing_value(config: Any, key: str, choices: Mapping[str, Any]) -> Problem:
    """Return the problem of a key of `config`, a DictConfig, whose value must be typed."""
    why = f"needs a value: {key}=..."
    argument = argument_of(config, key)
    if argument is not None and type_problem(None, argument.annotation) is None:
        why += f", or {key}=null to do without"
    experiment = choices.get("experiment")
    if experiment is not None:
        why += f" (dltrain show experiment/{experiment})"
    return f"{key}={MISSING}", why
