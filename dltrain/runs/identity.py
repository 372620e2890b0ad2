"""The identity of an experiment: a hash of the part of a configuration that defines it."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from dltrain.files import to_json
from dltrain.types import flatten

SURROUNDINGS = (  # keys, or their beginnings, that change no result: places, logs, the machine
    *("launcher.", "sweep.", "name", "resume", "paths.", "plugins", "expect", "checkpoints."),
    *("callbacks.progress", "callbacks.tensorboard", "callbacks.explain"),
    *("device.name", "device.threads", "device.flush_denormals", "device.keep_freed_memory"),
    *("device.tune", "device.processes", "device.parallel", "device.process_timeout"),
    *("trainer.log_every", "trainer.save_every", "trainer.on_save_error"),
)
SPLIT_KEY = re.compile(  # a setting that divides the samples
    r"dataset\.(.*[._])?(val|test|split|subset|limit|folds?|group|time)(_\w+)?"
)
LORA = "lora."  # begins the settings of LoRA
NOTHING: tuple[str, ...] = ()
FOLD_KEY = "dataset.fold"
FOLDS_KEY = "dataset.folds"
TUNING = "tuning"  # of a manifest: what device=fast measured and chose
REQUESTED = "requested"  # of that: the settings that were chosen, as they were before


def defining(config: dict[str, Any]) -> dict[str, Any]:
    """Return {dotted key: value} of what defines an experiment.

    Places, logs and the machine are left out: the same experiment may run elsewhere. So are the
    settings of LoRA where it is off, which runs of earlier versions do not have.
    """
    values = flatten(config)
    unread = LORA if values.get(f"{LORA}rank") is None else NOTHING
    return {
        key: value
        for key, value in values.items()
        if not is_surrounding(key) and not key.startswith(unread)
    }


def is_surrounding(key: str) -> bool:
    """Tell if a dotted key changes no result."""
    return key.startswith(SURROUNDINGS)


def identity(config: dict[str, Any], without: tuple[str, ...] = ()) -> str:
    """Return the SHA-256, in 64 hexadecimal digits, of what defines an experiment.

    Keys in `without` do not count: without the seed, the runs of an average have one identity.
    """
    values = {key: value for key, value in defining(config).items() if key not in without}
    return hash_of(values)


def requested_config(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration of a run as it was requested, without what device=fast chose.

    The same request may be answered otherwise on another machine.
    """
    config = manifest.get("config")
    tuning = manifest.get(TUNING)
    if not isinstance(config, dict):
        return {}
    if not isinstance(tuning, dict) or not isinstance(config.get("device"), dict):
        return config
    return {**config, "device": {**config["device"], **tuning.get(REQUESTED, {})}}


def data_identity(manifest: dict[str, Any]) -> str:
    """Return a hash of the samples that score a run: the data, its split, and the task.

    Scores of runs with different ones cannot be compared. The folds of one split have the same.
    """
    config = manifest.get("config")
    settings = flatten(config) if isinstance(config, dict) else {}
    values = {key: v for key, v in settings.items() if SPLIT_KEY.fullmatch(key) and key != FOLD_KEY}
    for key in ("task._target_", "dataset._target_", "dataset.source._target_", "debug"):
        values[key] = settings.get(key)
    return hash_of({**values, "fingerprint": manifest.get("dataset_fingerprint")})


def hash_of(values: dict[str, Any]) -> str:
    """Return the SHA-256 of values in 64 hexadecimal digits."""
    return hashlib.sha256(canonical(values).encode()).hexdigest()


def canonical(values: dict[str, Any]) -> str:
    """Return JSON that is the same for equal values, whatever the order of the keys."""
    return to_json(dict(sorted(values.items())), default=str)
