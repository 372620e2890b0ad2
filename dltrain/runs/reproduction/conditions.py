"""The conditions of a run that its numbers depend on: code, versions, data, machine, settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dltrain.types import flatten

COMPARED = (  # keys of a manifest
    *("git", "versions", "dataset_fingerprint", "initial_weights", "machine", "environment"),
    *("device", "device_name", "precision", "channels_last", "threads", "flush_denormals"),
    "effective",
)
NEUTRAL = (  # differences that do not change rounding
    *("git.", "machine.cpus", "machine.system", "environment.DLTRAIN_DATA"),
    "environment.CUDA_VISIBLE_DEVICES",
)
RECORDED_LATER = ("machine", "environment")  # not in the manifests of versions before 0.3
DATA = ("dataset_fingerprint",)


@dataclass(frozen=True)
class ChangedCondition:
    """A condition that differs between two runs."""

    key: str
    then: Any
    now: Any


@dataclass(frozen=True)
class Conditions:
    """The conditions that differ, those that the earlier run did not record, and its device."""

    changed: list[ChangedCondition]
    unknown: list[str]
    on_cpu: bool
    is_dirty: bool

    @property
    def other_data(self) -> bool:
        """True if the data is not that of the earlier run."""
        return any(one.key in DATA for one in self.changed)

    @property
    def are_the_same(self) -> bool:
        """True if everything was recorded, and nothing differs."""
        return not self.changed and not self.unknown

    @property
    def are_exact(self) -> bool:
        """True if every number must be the same to the bit."""
        relevant = [one for one in self.changed if not one.key.startswith(NEUTRAL)]
        return self.on_cpu and not relevant and not self.unknown


def compared_conditions(then: Mapping[str, Any], now: Mapping[str, Any]) -> Conditions:
    """Return how the conditions in two manifests differ."""
    unknown = [key for key in RECORDED_LATER if key not in then]
    on_cpu = then.get("device") == now.get("device") == "cpu"
    return Conditions(
        changed=changed_conditions(conditions_of(then), conditions_of(now), unknown),
        unknown=unknown,
        on_cpu=on_cpu,
        is_dirty=has_changes(then) or has_changes(now),
    )


def changed_conditions(
    then: dict[str, Any], now: dict[str, Any], unknown: list[str]
) -> list[ChangedCondition]:
    """Return the conditions that differ; `unknown` keys were not recorded then."""
    keys = [*now, *(key for key in then if key not in now)]
    known = [key for key in keys if key.partition(".")[0] not in unknown]
    pairs = [ChangedCondition(key, then.get(key), now.get(key)) for key in known]
    return [one for one in pairs if one.then != one.now]


def has_changes(manifest: Mapping[str, Any]) -> bool:
    """Return True if the working folder had changes that were not committed."""
    return bool(manifest.get("git", {}).get("dirty"))


def conditions_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the conditions in a manifest by their keys."""
    return flatten({key: manifest[key] for key in COMPARED if key in manifest})
