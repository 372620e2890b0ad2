"""The definition of a sweep: the settings that may not change when it is resumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dltrain.config.command_groups import split_overrides
from dltrain.config.schema import as_yaml
from dltrain.errors import UsageError
from dltrain.runs.identity import is_surrounding

MAY_CHANGE = ("launcher", "sweep.trials")  # keys, or their beginnings
NOT_LASTING = ("trials", "_target_")  # settings of samplers
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


def lasting_settings(sampler: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a sampler that decide which trials a sweep has.

    They may come from a file of the user, which the overrides do not tell.
    """
    return {key: value for key, value in sampler.items() if key not in NOT_LASTING}


def require_same_settings(before: Any, now: Mapping[str, Any], folder: Any) -> None:
    """Raise UsageError with the difference if a setting of the sampler has another value.

    Settings that only one version of dltrain knows do not count.
    """
    if not isinstance(before, dict):
        return
    shared = [key for key in now if key in before]
    old = {f"sweep.{key}": as_yaml(before[key]) for key in shared}
    new = {f"sweep.{key}": as_yaml(now[key]) for key in shared}
    lines = difference_lines(old, new)
    if lines:
        why = "a file of options has changed; undo that, or start a new sweep"
        raise UsageError("\n".join([f"{folder} is a sweep with other settings:", *lines, why]))


def difference_lines(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Return a line for each key whose value differs."""
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return [f"  {key}: {old.get(key, NOT_SET)} -> {new.get(key, NOT_SET)}" for key in keys]
