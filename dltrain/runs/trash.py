"""The trash: a hidden folder under the output root, into which deleted runs are moved.

A run keeps its path below the root there, so that `mv` restores it. Links are moved, never
followed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dltrain.errors import UsageError
from dltrain.files import writing
from dltrain.runs.lock import acquire_lock, is_locked, owner, release_lock

TRASH = ".trash"


@dataclass(frozen=True)
class Moved:
    """A folder that was moved into the trash."""

    source: Path
    target: Path


def move_to_trash(root: Path, folders: Sequence[Path]) -> list[Moved]:
    """Move folders of runs, or of whole sweeps, into the trash of `root`; return their places.

    Raises:
        UsageError: a folder is not below `root`, or a process writes there; nothing was moved. Or
            a folder cannot be moved; the message says which.
    """
    places = [place_below(root, folder) for folder in folders]
    require_idle(folders)
    require_own_trash(root)
    bin_folder = root / TRASH / f"{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"
    moved = []
    for folder, place in zip(folders, places, strict=True):
        target = bin_folder / place
        with writing(target, f"{folder} was not moved"):
            target.parent.mkdir(parents=True, exist_ok=True)
            with unused(folder, target):
                folder.rename(target)
        moved.append(Moved(folder, target))
    return moved


def place_below(root: Path, folder: Path) -> Path:
    """Return the path of a run's folder below `root`, where the folder itself may be a link.

    Raises UsageError unless it lies there, at the place of a run: a link above it that leads
    elsewhere does not count.
    """
    home = root.resolve()
    real = folder.parent.resolve() / folder.name
    if real.is_relative_to(home):
        place = real.relative_to(home)
        if len(place.parts) >= 2 and not place.parts[0].startswith("."):
            return place
    raise UsageError(
        f"{folder} is not deleted: it is not a run's folder below {root} "
        "(paths.output=FOLDER names another place)"
    )


def require_idle(folders: Sequence[Path]) -> None:
    """Raise UsageError if a process writes into one of the folders, or into a job's of a sweep."""
    for folder in folders:
        jobs = sorted(child for child in folder.glob("*") if child.is_dir())
        for place in filter(is_locked, (folder, *jobs)):
            raise UsageError(
                f"{place} is not deleted: it is being written by a run that is still going "
                f"({owner(place)})"
            )


def require_own_trash(root: Path) -> None:
    """Raise UsageError if the trash is a link: what is moved there would leave the root."""
    if (root / TRASH).is_symlink():
        raise UsageError(f"{root / TRASH} is a link; remove it, and a folder is made in its place")


@contextmanager
def unused(folder: Path, target: Path) -> Iterator[None]:
    """Hold the lock of a folder while it is moved to `target`; that of a link is not touched."""
    if folder.is_symlink() or not os.access(folder, os.W_OK):
        yield
        return
    lock = acquire_lock(folder)
    try:
        yield
    finally:
        release_lock(lock, folder)
        release_lock(lock, target)


@dataclass(frozen=True)
class TrashContent:
    """The runs in the trash: how often something was deleted, and how many bytes there are."""

    deletions: list[Path]
    size: int


def trash_content(root: Path) -> TrashContent:
    """Return what is in the trash of `root`; UsageError if the trash is a link."""
    require_own_trash(root)
    deletions = []
    with suppress(OSError):
        deletions = sorted((root / TRASH).iterdir())
    return TrashContent(deletions, sum(map(size_of, deletions)))


def size_of(folder: Path) -> int:
    """Return the bytes of all files in a folder and below; links are not followed."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += Path(place, name).lstat().st_size
    return total


def empty_trash(content: TrashContent) -> None:
    """Delete what is in the trash. A link is removed, and what it leads to stays."""
    for path in content.deletions:
        with writing(path):
            if path.is_symlink() or not path.is_dir():
                path.unlink()
            else:
                shutil.rmtree(path)
