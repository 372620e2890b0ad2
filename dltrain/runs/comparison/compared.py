"""The runs that are compared: found by the words of a command, and read from their files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from dltrain.errors import InputError, UsageError
from dltrain.runs.find import find, matching_runs
from dltrain.runs.folder import CONFIG, MANIFEST, RunFolder
from dltrain.runs.listing.folders import SWEEP_SUFFIX, FoundFolder
from dltrain.runs.listing.index import natural_order, read
from dltrain.runs.listing.summary import RunSummary
from dltrain.runs.lock import is_locked

MAX_RUNS = 100
TOO_MANY = (
    f"runs are too many for one table (at most {MAX_RUNS}); "
    "`dltrain runs --sort test/accuracy` lists them"
)


@dataclass(frozen=True)
class ComparedRun:
    """A run with a letter for the heads of columns, its summary and its manifest."""

    label: str
    folder: Path
    summary: RunSummary
    manifest: dict[str, Any]


def compared_runs(names: Sequence[str], root: Path) -> list[ComparedRun]:
    """Return the runs that the names mean; a sweep means all of its jobs.

    Raises:
        InputError: a run does not exist, or its manifest is damaged.
        UsageError: the names mean fewer than two runs, or very many.
    """
    folders = list(dict.fromkeys(folder for name in names for folder in folders_of(name, root)))
    if len(folders) < 2:
        raise UsageError("name two runs or more, or a sweep: dltrain compare RUN RUN")
    if len(folders) > MAX_RUNS:
        raise UsageError(f"{len(folders)} {TOO_MANY}")
    return [opened(label, folder) for label, folder in zip(labels(), folders, strict=False)]


def labels() -> Iterable[str]:
    """Yield A, B, ... Z, AA, AB, ..."""
    yield from ascii_uppercase
    yield from (one + other for one in ascii_uppercase for other in ascii_uppercase)


def folders_of(name: str, root: Path) -> list[Path]:
    """Return the folder of the run that a name means, or those of the jobs of a sweep."""
    try:
        return [find(name, root).folder]
    except InputError:
        jobs = jobs_at(name, root) or jobs_called(name, root)
        if jobs:
            return jobs
        raise


def jobs_at(name: str, root: Path) -> list[Path]:
    """Return the folders of the jobs of the sweep whose path is `name`, from here or the root."""
    return jobs_in(Path(name)) or jobs_in(root / name)


def jobs_called(name: str, root: Path) -> list[Path]:
    """Return the folders of the jobs of a sweep if `name` fits this sweep and nothing else."""
    places = {sweep_of(run) or run for run in matching_runs(name, root)}
    return jobs_in(places.pop()) if len(places) == 1 else []


def jobs_in(folder: Path) -> list[Path]:
    """Return the folders of a sweep's jobs in their order; none if it is not a sweep's folder."""
    if (folder / CONFIG).exists():
        return []
    jobs = [file.parent for file in folder.glob(f"[!.]*/{CONFIG}")]
    return sorted(jobs, key=lambda job: natural_order(job.name))


def sweep_of(run: Path) -> Path | None:
    """Return the folder of the sweep that a run is a job of."""
    return run.parent if run.parent.name.endswith(SWEEP_SUFFIX) else None


def opened(label: str, folder: Path) -> ComparedRun:
    """Return a run from its files, which may still be written."""
    manifest = RunFolder(folder).read_json(MANIFEST)
    if not isinstance(manifest.get("config"), dict):
        raise InputError(f"{folder / MANIFEST} is absent or has no configuration")
    summary = read(folder.parent, FoundFolder(folder.name, "", is_locked(folder)))
    return ComparedRun(label, folder, summary, manifest)
