"""The folders that the words of a command name, and the runs that refer to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from dltrain.errors import UsageError
from dltrain.runs.find import find
from dltrain.runs.listing.summary import RunSummary
from dltrain.runs.listing.values import short_name


def folder_of(name: str, root: Path, summaries: Sequence[RunSummary]) -> Path:
    """Return the folder that a name means: that of a run, damaged or not, or of a whole sweep."""
    named = [run.path for run in summaries if name in (run.path, short_name(run.path))]
    if named:
        return root / named[0]
    if Path(name) in sweeps_of(root, summaries):
        return Path(name)
    return found_folder(name, root)


def found_folder(name: str, root: Path) -> Path:
    """Return the folder of the run that a name means; UsageError for one of its checkpoints."""
    run_folder = find(name, root)
    if run_folder.checkpoint is not None:
        raise UsageError(f"{name} is a checkpoint; name a run")
    return run_folder.folder


def sweeps_of(root: Path, summaries: Sequence[RunSummary]) -> set[Path]:
    """Return the folders of the sweeps that have jobs."""
    paths = [run.path.split("/") for run in summaries]
    return {root.joinpath(*parts[:-1]) for parts in paths if len(parts) > 2}


def references(
    folders: Sequence[Path], root: Path, summaries: Sequence[RunSummary]
) -> Iterator[tuple[Path, str]]:
    """Yield the folder of each other run that refers to one of the folders, and its reference."""
    places = {folder.absolute() for folder in folders}
    for run in summaries:
        if (root / run.path).absolute() not in places:
            yield from ((root / run.path, source) for source in meant(run.sources, folders))


def meant(sources: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """Return the references that mean one of the folders."""
    return [source for source in sources if any(is_meant(source, one) for one in folders)]


def is_meant(source: str, folder: Path) -> bool:
    """Tell if a reference, a folder or a part of its name, means the folder.

    It cannot be told of `last`, which meant another run at every time.
    """
    if Path(source).absolute() == folder.absolute():
        return True
    return not source.startswith("last") and source in str(folder)
