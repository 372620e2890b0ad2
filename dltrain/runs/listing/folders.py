"""The folders of all runs under an output root, with what tells whether their files changed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dltrain.runs.folder import CONFIG, MANIFEST, METRICS, RESULTS
from dltrain.runs.lock import OWNER, is_locked

SWEEP_RECORD = "sweep.jsonl"  # in the folder of a sweep
SWEEP_SUFFIX = "_sweep"  # of the folder of a sweep, which holds the folders of its jobs
ABSENT = "-"  # in a signature: the file does not exist
UNREADABLE = "?"  # in a signature: the file system refuses to tell


@dataclass(frozen=True)
class FoundFolder:
    """A folder that is a run's, by its path below the root.

    `signature` changes when one of the files changes that a summary is made of. `is_running` tells
    whether a process holds the folder's lock.
    """

    path: str
    signature: str
    is_running: bool


def run_folders(root: Path) -> Iterator[FoundFolder]:
    """Yield the folder of every run under `root`, jobs of sweeps included.

    Hidden folders, such as the trash, are left out. `root` may be the folder of a sweep.
    """
    if stamp(f"{root}/{SWEEP_RECORD}") != ABSENT:
        for job in _folders_in(f"{root}"):
            yield from _run_at(root, job)
        return
    for date in _folders_in(f"{root}"):
        for name in _folders_in(f"{root}/{date}"):
            path = f"{date}/{name}"
            if name.endswith(SWEEP_SUFFIX):
                for job in _folders_in(f"{root}/{path}"):
                    yield from _run_at(root, f"{path}/{job}")
            yield from _run_at(root, path)


def _folders_in(folder: str) -> list[str]:
    """Return the names of the folders in a folder, without hidden ones; empty if unreadable."""
    try:
        with os.scandir(folder) as entries:
            return [one.name for one in entries if not one.name.startswith(".") and one.is_dir()]
    except OSError:
        return []


def _run_at(root: Path, path: str) -> Iterator[FoundFolder]:
    """Yield the run in a folder, if it has a file of a run or refuses to be looked at."""
    signature = _signature(f"{root}/{path}")
    if signature:
        is_running = stamp(f"{root}/{path}/{OWNER}") != ABSENT and is_locked(root / path)
        yield FoundFolder(path, signature, is_running)


def _signature(folder: str) -> str:
    """Return the stamps of the files that a summary is made of; "" if it is no run's folder."""
    stamps = [stamp(f"{folder}/{MANIFEST}"), stamp(f"{folder}/{RESULTS}")]
    if stamps[1] == ABSENT:  # the run has not ended: its metrics tell how far it is
        stamps.append(stamp(f"{folder}/{METRICS}"))
    is_run = set(stamps) != {ABSENT} or stamp(f"{folder}/{CONFIG}") != ABSENT
    return " ".join(stamps) if is_run else ""


def stamp(path: str) -> str:
    """Return a text that is another one when the file was written again or replaced."""
    try:
        state = os.stat(path)  # noqa: PTH116  (40,000 times in a listing: a Path takes as long again)
    except (FileNotFoundError, NotADirectoryError):
        return ABSENT
    except OSError:
        return UNREADABLE
    return f"{state.st_mtime_ns}-{state.st_size}-{state.st_ino}"
