"""Finds one key of a composed configuration, with what its target's signature says about it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from dltrain.config.compose import Composed
from dltrain.config.policy import locate
from dltrain.config.schema import Argument, arguments
from dltrain.config.settings import Settings
from dltrain.config.suggestions.suggest import unknown_key_message
from dltrain.errors import UsageError


def look_up(composed: Composed, key: str) -> tuple[Any, Argument | None]:
    """Return the value of `key` and the argument that it is passed to, if any.

    Raises UsageError for a key that does not exist.
    """
    from omegaconf import OmegaConf

    plugins = composed.config["plugins"]
    node: Any = composed.config
    known: Mapping[str, Argument] = arguments(Settings)
    argument: Argument | None = None
    for part in key.split("."):
        argument = known.get(part)
        if not isinstance(node, dict) or (part not in node and argument is None):
            raise UsageError(
                f"{key}  {unknown_key_message(OmegaConf.create(composed.config), key)}"
            )
        node = _value(node, part, argument)
        known = _arguments_of(node, argument, plugins)
    return node, argument


def _value(node: dict[str, Any], key: str, argument: Argument | None) -> Any:
    """Return the value of a key in its node, or the default in its target's signature."""
    if key in node or argument is None or argument.required:
        return node.get(key)
    return argument.default


def _arguments_of(
    node: Any, argument: Argument | None, plugins: list[str]
) -> Mapping[str, Argument]:
    """Return the arguments that the keys below a node are passed to."""
    if not isinstance(node, dict):
        return {}
    known: Mapping[str, Argument] = {}
    if "_target_" in node:
        known = arguments(locate(node["_target_"], plugins))
    if not known and argument is not None and inspect.isclass(argument.annotation):
        known = arguments(argument.annotation)
    return known
