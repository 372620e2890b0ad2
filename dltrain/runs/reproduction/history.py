"""The history of a run: the configurations that it was trained with, one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dltrain.config.changes import changes
from dltrain.errors import InputError
from dltrain.files import to_json
from dltrain.runs.folder import FINISHED, MANIFEST, RESULTS, RunFolder
from dltrain.shell import quoted, shell_word

LOCAL = ("paths.", "plugins", "name", "expect", "device.")  # keys that reproducing sets itself


@dataclass(frozen=True)
class TrainingPart:
    """A part of a run's training: the configuration, and the step at which the next part begins.

    `end` is None for the last part. `finished` is True if the run had finished there.
    """

    config: dict[str, Any]
    end: int | None = None
    finished: bool = False


def history(run: RunFolder) -> list[TrainingPart]:
    """Return the parts of a run's training: several if it was continued with other settings.

    Raises InputError if the run cannot be trained again, with the reason.
    """
    manifest = run.read_json(MANIFEST)
    if not isinstance(manifest.get("config"), dict):
        raise InputError(f"{run.folder} cannot be reproduced: it has no {MANIFEST}")
    if "parent" in manifest:
        raise InputError(f"{run.folder} cannot be reproduced: {fork_message(manifest['parent'])}")
    parts = []
    for record in manifest.get("resumed", []):
        if any(not is_local(key) for key in record.get("changed", {})):
            parts.append(part_before(run, record))
    return [*parts, TrainingPart(manifest["config"])]


def is_local(key: str) -> bool:
    """Return True for a key that does not change what is computed, such as a folder."""
    return key.startswith(LOCAL)


def part_before(run: RunFolder, record: Mapping[str, Any]) -> TrainingPart:
    """Return the part of the training that a continuation with other settings ended."""
    earlier = record.get("earlier")
    if earlier is None:
        keys = ", ".join(record["changed"])
        raise InputError(
            f"{run.folder} cannot be reproduced: it was continued at step {record['step']} with "
            f"another {keys}, by a version that did not record what it was before"
        )
    return TrainingPart(earlier["config"], record["step"], earlier["finished"])


def fork_message(parent: Mapping[str, Any]) -> str:
    """Return why a fork cannot be trained again."""
    run = shell_word(str(parent["run"]))
    return (
        f"it is a fork of {run} at step {parent['step']}; `dltrain reproduce {run}` reproduces "
        "that run"
    )


def earlier_part(run: RunFolder, manifest: Mapping[str, Any], step: int) -> dict[str, Any]:
    """Return what a continuation at `step` with other settings records of the run before it."""
    results = run.read_json(RESULTS)
    finished = results.get("status") in FINISHED and results.get("steps") == step
    return {"config": manifest.get("config"), "finished": finished}


def overrides_between(part: TrainingPart, following: TrainingPart) -> list[str]:
    """Return the overrides that continue a part of the training with the next configuration.

    Raises InputError if a key was added or removed.
    """
    overrides = []
    for change in changes(part.config, following.config):
        if is_local(change.key):
            continue
        overrides.append(f"{change.key}={override_value(change.after)}")
    return overrides


def override_value(value: Any) -> str:
    """Return a value as Hydra's override grammar reads it."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, list):
        return f"[{','.join(map(override_value, value))}]"
    return to_json(value)
