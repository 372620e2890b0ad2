"""Turns a `_target_` node of a checked configuration into the object that it describes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from dltrain.config.checking.nodes import PARTIAL, TARGET
from dltrain.config.policy import locate
from dltrain.config.schema import Argument, arguments
from dltrain.errors import ConfigError
from dltrain.user_code import location_of_user_code


def instantiate(
    node: dict[str, Any],
    path: str,
    available: Mapping[str, Any],
    plugins: list[str],
    settings: Mapping[str, Any] | None = None,
) -> Any:
    """Return the object that `node` describes; with `_partial_: true`, its partial target.

    The node stands at the key `path`. Its arguments are its own keys; `settings`, which other
    choices set, replace them. Arguments that are still missing are taken from `available` by name.
    Raises ConfigError for a required argument without a value, and for values that the target
    refuses with a ValueError.
    """
    target = locate(node[TARGET], plugins)
    accepted = arguments(target)
    values: dict[str, Any] = {}
    for name, value in node.items():
        if name not in (TARGET, PARTIAL):
            values[name] = _argument_value(value, f"{path}.{name}", available, plugins)
    values.update(settings or {})
    for name in accepted:
        if name in available and name not in values:
            values[name] = available[name]
    if node.get(PARTIAL):
        return functools.partial(target, **values)
    _require_all(node, path, target, accepted, values)
    try:
        return target(**values)
    except ValueError as e:
        where = location_of_user_code(e)
        reason = f"{e} ({where})" if where else str(e)
        raise ConfigError([(path, reason)]) from e


def _argument_value(value: Any, path: str, available: Mapping[str, Any], plugins: list[str]) -> Any:
    """Return an argument as its target takes it: nodes are objects, lists are tuples."""
    if isinstance(value, list):
        return tuple(value)
    if not isinstance(value, dict):
        return value
    if TARGET in value:
        return instantiate(value, path, available, plugins)
    return {
        name: _argument_value(child, f"{path}.{name}", available, plugins)
        for name, child in value.items()
    }


def _require_all(
    node: dict[str, Any],
    path: str,
    target: Callable[..., Any],
    accepted: Mapping[str, Argument],
    values: Mapping[str, Any],
) -> None:
    """Raise ConfigError if a required argument has no value."""
    missing = [name for name, a in accepted.items() if a.required and name not in values]
    if not missing:
        return
    keys = ", ".join(f"{path}.{name}" for name in missing)
    why = f"needs {keys}, which this data set and task do not provide: "
    why += f"set it, or choose another {path}"
    if inspect.isfunction(target):
        why += ", or with _partial_: true it is called later"
    raise ConfigError([(f"{path}={node[TARGET]}", why)])
