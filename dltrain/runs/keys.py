"""The key by which `resume=auto` finds the run that the same command began, and its lock.

The key is the run's name, else the job of SLURM (a requeued job keeps its number) with a hash of
the configuration, else that hash.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dltrain.errors import UsageError
from dltrain.files import writing
from dltrain.runs.identity import identity
from dltrain.runs.listing.index import all_summaries
from dltrain.runs.listing.summary import DAMAGED, RunSummary
from dltrain.runs.lock import acquire_lock, owner, release_lock

AUTO = "auto"  # the value of the setting `resume`
KEY = "key"  # of a manifest
KEY_LOCKS = ".keys"  # the folder of the locks, under the output root
HASH_CHARS = 32  # of SHA-256, in a key and in the name of its lock
NAMED = "name="  # begins the key of a run with a name


def key_of(config: dict[str, Any], environment: Mapping[str, str] = os.environ) -> str:
    """Return the key of a new run with a configuration (the public one)."""
    if config["name"] is not None:
        return f"{NAMED}{config['name']}"
    configuration = f"config={identity(config)[:HASH_CHARS]}"
    job = slurm_job(environment)
    if job is None:
        return configuration
    return f"slurm={job} {configuration}"


def slurm_job(environment: Mapping[str, str]) -> str | None:
    """Return the number of the SLURM job, of an array with that of the task; None outside one."""
    array = environment.get("SLURM_ARRAY_JOB_ID")
    task = environment.get("SLURM_ARRAY_TASK_ID")
    if array and task:
        return f"{array}_{task}"
    return environment.get("SLURM_JOB_ID") or None


def run_with_key(root: Path, key: str) -> RunSummary | None:
    """Return the newest run under `root` that was begun with a key; None without one.

    A run whose files are damaged does not count.
    """
    runs = [run for run in all_summaries(root) if run.key == key and run.status != DAMAGED]
    return runs[0] if runs else None


@contextmanager
def held_key(root: Path, key: str) -> Iterator[None]:
    """Be the only process that looks for the run with a key, makes it and trains it.

    Raises UsageError, naming the other process, if another one does.
    """
    folder = root / KEY_LOCKS / hashlib.sha256(key.encode()).hexdigest()[:HASH_CHARS]
    with writing(f"paths.output={root}", "paths.output=FOLDER names another place"):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = acquire_lock(folder)
        except UsageError as e:
            raise UsageError(
                f"resume={AUTO}: the run of this command ({key}) is being trained by another "
                f"process ({owner(folder)}); name=OTHER begins a run of its own"
            ) from e
    try:
        yield
    finally:
        release_lock(lock, folder)
