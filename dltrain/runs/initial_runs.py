"""The runs whose weights or networks a run uses, as its manifest names them: key to folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dltrain.errors import InputError
from dltrain.runs.find import LAST, LAST_ANY
from dltrain.runs.folder import MANIFEST, RunFolder

KEY = "initial_runs"  # of a manifest


def with_initial_runs(config: dict[str, Any], run: RunFolder) -> dict[str, Any]:
    """Return the saved configuration of `run` with the folders of the runs that it names.

    `last` means another run by now, and so may a part of a name. Where a folder is gone, a name
    that is not `last` stays as it was typed: the run may have been moved.
    """
    manifest = run.read_json(MANIFEST)
    for key, folders in as_mapping(manifest.get(KEY)).items():
        names = value_at(config, key.split("."))
        if names is None or not may_replace(names, folders):
            continue
        config = dict(config)
        set_key(config, key.split("."), folders)
    return config


def may_replace(names: Any, folders: Any) -> bool:
    """Tell if folders replace the names in a configuration; see `with_initial_runs`."""
    all_there = all(Path(folder).is_dir() for folder in as_list(folders))
    return all_there or bool({LAST, LAST_ANY} & {str(name) for name in as_list(names)})


def as_mapping(value: Any) -> dict[str, Any]:
    """Return a mapping as it is; {} for any other value of a damaged file."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[str]:
    """Return the texts of a list, or a single value as a list."""
    values = value if isinstance(value, list | tuple) else [value]
    return [str(item) for item in values]


def value_at(config: dict[str, Any], path: Sequence[str]) -> Any:
    """Return the value of a dotted key; None if the configuration has none."""
    value: Any = config
    for name in path:
        value = as_mapping(value).get(name)
    return value


def set_key(config: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Set a dotted key of a configuration, whose nodes on the way are copied."""
    for name in path[:-1]:
        config[name] = dict(config[name])
        config = config[name]
    config[path[-1]] = value


def existing_runs(key: str, folders: str | list[str]) -> str | list[str]:
    """Return the folders of the runs that a run began with; InputError if one is gone."""
    for folder in as_list(folders):
        if not Path(folder).is_dir():
            raise InputError(
                f"the run began with the weights of {folder}, which is not there; {key}=RUN names "
                "where that run is now"
            )
    return folders
