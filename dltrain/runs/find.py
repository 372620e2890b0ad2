"""Finding a run by its folder, a part of the folder's name, or `last`."""

from __future__ import annotations

from pathlib import Path

from dltrain.errors import InputError
from dltrain.runs.folder import CHECKPOINTS, CONFIG, RunFolder

OUTPUT_HINT = "paths.output=FOLDER names another place"
MAX_CANDIDATES = 5  # that an ambiguous name is answered with


def all_runs(root: Path) -> list[Path]:
    """Return every run folder under `root`, oldest first: jobs of a sweep, but not the sweep."""
    files = [*root.glob(f"*/*/{CONFIG}"), *root.glob(f"*/*_sweep/*/{CONFIG}")]
    folders = [path.parent for path in files]
    return sorted((one for one in folders if not one.name.startswith(".")), key=_natural_order)


def _natural_order(folder: Path) -> list[tuple[int, str]]:
    """Return the sort key of a folder: job 12 of a sweep comes after job 2."""
    return [(int(part) if part.isdigit() else 0, part) for part in folder.parts]


def find(name: str, root: Path) -> RunFolder:
    """Return the run that `name` means: a folder, `last`, or a part that only one name has.

    The folder of a checkpoint means that checkpoint of its run. Raises InputError if there is no
    such run, or there are several.
    """
    folder = Path(name)
    named = _run_at(folder)
    if named is not None:
        return named
    runs = all_runs(root)
    matches = runs[-1:] if name == "last" else _matches(name, runs, root)
    if len(matches) > 1:
        candidates = "\n".join(f"  {run}" for run in matches[-MAX_CANDIDATES:])
        raise InputError(f"{name!r} could be any of {len(matches)} runs; name one\n{candidates}")
    if not matches and folder.is_dir():
        raise InputError(f"{name} is not a run's folder: there is no {CONFIG} in it")
    if not matches:
        raise InputError(_absent_message(name, runs, root))
    return RunFolder(matches[0])


def _run_at(folder: Path) -> RunFolder | None:
    """Return the run whose folder this is, or that of one of its checkpoints."""
    if (folder / CONFIG).is_file():
        return RunFolder(folder)
    if folder.parent.name == CHECKPOINTS and (folder.parents[1] / CONFIG).is_file():
        return RunFolder(folder.parents[1], folder)
    return None


def _absent_message(name: str, runs: list[Path], root: Path) -> str:
    """Return the message for an unknown name."""
    if not runs:
        return f"there is no run under {root} ({OUTPUT_HINT}); `dltrain` trains one"
    return f"no run is called {name!r} under {root} ({OUTPUT_HINT}); the newest is {runs[-1]}"


def _matches(name: str, runs: list[Path], root: Path) -> list[Path]:
    """Return the runs whose path ends with `name`; if there are none, those that contain it."""
    paths = {run: f"/{run.relative_to(root).as_posix()}" for run in runs}
    ending = [run for run, path in paths.items() if path.endswith(f"/{name}")]
    return ending or [run for run, path in paths.items() if name in path]
