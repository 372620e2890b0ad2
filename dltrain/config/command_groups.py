"""The groups `launcher` and `sweep`: settings of a sweep, which its runs do not have."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from dltrain.config.compose import Composed
from dltrain.config.groups import COMMAND_GROUPS


def of_run(composed: Composed) -> Composed:
    """Return a configuration as a run saves it, without the settings of the sweep."""
    return replace(
        composed,
        config=_without_groups(composed.config),
        public=_without_groups(composed.public),
        choices=_without_groups(composed.choices),
        typed={key: text for key, text in composed.typed.items() if not is_of_command(key)},
    )


def _without_groups(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in COMMAND_GROUPS}


def is_of_command(override: str) -> bool:
    """Tell if an override, or its key, sets something of the sweep: launcher.jobs=4, sweep=tpe."""
    key = override.partition("=")[0].lstrip("+~")
    return key.partition(".")[0].partition("@")[0] in COMMAND_GROUPS


def split_overrides(overrides: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the overrides of the sweep, and those of its runs."""
    own: list[str] = []
    rest: list[str] = []
    for override in overrides:
        (own if is_of_command(override) else rest).append(override)
    return own, rest
