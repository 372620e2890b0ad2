"""The definition of a sweep: the settings that may not change when it is resumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dltrain.config.command_groups import split_overrides
from dltrain.errors import UsageError
from dltrain.runs.identity import is_surrounding

MAY_CHANGE = ("launcher", "sweep.trials")  # keys, or their beginnings
NOT_SET = "not set"


def definition(overrides: Sequence[str]) -> dict[str, str]:
    """Return {key: value} of the overrides that decide which trials a sweep has."""
    own, of_runs = split_overrides(overrides)
    values = {}
    for override in [*own, *of_runs]:
        key, _, value = override.partition("=")
        name = key.lstrip("+")
        if name.startswith(MAY_CHANGE) or (override in of_runs and is_surrounding(name)):
            continue
        values[name] = value
    return values


def require_same_definition(before: Sequence[str], now: Sequence[str], folder: Any) -> None:
    """Raise UsageError with the difference unless a command defines the same sweep as before."""
    old = definition(before)
    new = definition(now)
    lines = difference_lines(old, new)
    if not lines:
        return
    raise UsageError(
        "\n".join(
            [
                f"{folder} is a sweep with other settings, which its trials have:",
                *lines,
                "a resume may change launcher=, launcher.* and sweep.trials; start a new sweep",
            ]
        )
    )


def difference_lines(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Return a line for each key whose value differs."""
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return [f"  {key}: {old.get(key, NOT_SET)} -> {new.get(key, NOT_SET)}" for key in keys]
