"""Finding a run by its folder, a part of the folder's name, `last` or `last-any`.

`last` is the newest run that was meant as one: not a debug run, whose data may be fake. The mode
stands in a line of the run's configuration, so only the newest runs are looked at.
"""

from __future__ import annotations

import re
from pathlib import Path

from dltrain.errors import InputError
from dltrain.runs.folder import CHECKPOINTS, CONFIG, RunFolder

OUTPUT_HINT = "paths.output=FOLDER names another place"
MAX_CANDIDATES = 5  # that an ambiguous name is answered with
LAST = "last"
LAST_ANY = "last-any"
DEBUG_MODE = re.compile(rb"^debug: *['\"]?(smoke|overfit|profile)\b", re.MULTILINE)


def all_runs(root: Path) -> list[Path]:
    """Return every run folder under `root`, oldest first: jobs of a sweep, but not the sweep."""
    files = [*root.glob(f"*/*/{CONFIG}"), *root.glob(f"*/*_sweep/*/{CONFIG}")]
    folders = [path.parent for path in files]
    return sorted((one for one in folders if not one.name.startswith(".")), key=_natural_order)


def _natural_order(folder: Path) -> list[tuple[int, str]]:
    """Return the sort key of a folder: job 12 of a sweep comes after job 2."""
    return [(int(part) if part.isdigit() else 0, part) for part in folder.parts]


def find(name: str, root: Path) -> RunFolder:
    """Return the run that `name` means: a folder, or a part that only one name has.

    `last` means the newest run that is not a debug run, `last-any` the newest of all. The folder of
    a checkpoint means that checkpoint of its run. Raises InputError if no run or several runs fit.
    """
    folder = Path(name)
    named = _run_at(folder)
    if named is not None:
        return named
    runs = all_runs(root)
    matches = newest_runs(name, runs) if name in (LAST, LAST_ANY) else _matches(name, runs, root)
    if len(matches) > 1:
        candidates = "\n".join(f"  {run}" for run in matches[-MAX_CANDIDATES:])
        raise InputError(f"{name!r} could be any of {len(matches)} runs; name one\n{candidates}")
    if not matches and folder.is_dir():
        raise InputError(f"{name} is not a run's folder: there is no {CONFIG} in it")
    if not matches:
        raise InputError(_absent_message(name, runs, root))
    return RunFolder(matches[0])


def newest_runs(name: str, runs: list[Path]) -> list[Path]:
    """Return the run that `last` or `last-any` means among all `runs`, oldest first, if any.

    Raises InputError if there are only debug runs, and `last` none of them.
    """
    if name == LAST_ANY:
        return runs[-1:]
    newest = last_run(runs)
    if newest is not None:
        return [newest]
    if runs:
        raise InputError(
            f"there are only debug runs; the newest is {runs[-1]} (debug={debug_mode(runs[-1])}): "
            f"`{LAST_ANY}` means it, `{LAST}` is the newest run without debug="
        )
    return []


def last_run(runs: list[Path]) -> Path | None:
    """Return the newest of `runs`, oldest first, that is not a debug run."""
    for run in reversed(runs):
        if not debug_mode(run):
            return run
    return None


def debug_mode(run: Path) -> str:
    """Return the debug mode of a run: smoke, overfit or profile; "" for other runs."""
    try:
        content = (run / CONFIG).read_bytes()
    except OSError:
        return ""
    mode = DEBUG_MODE.search(content)
    return mode[1].decode() if mode else ""


def matching_runs(name: str, root: Path) -> list[Path]:
    """Return the runs under `root` that a part of a name fits, oldest first."""
    return _matches(name, all_runs(root), root)


def _run_at(folder: Path) -> RunFolder | None:
    """Return the run whose folder this is, or that of one of its checkpoints."""
    if (folder / CONFIG).is_file():
        return RunFolder(folder)
    if folder.parent.name == CHECKPOINTS and (folder.parents[1] / CONFIG).is_file():
        return RunFolder(folder.parents[1], _pointed_checkpoint(folder))
    return None


def _pointed_checkpoint(path: Path) -> Path:
    """Return the checkpoint's folder that a pointer such as `best` names, or `path` itself."""
    if not path.is_file():
        return path
    return path.with_name(path.read_text(errors="replace").strip() or path.name)


def _absent_message(name: str, runs: list[Path], root: Path) -> str:
    """Return the message for an unknown name."""
    if Path(name).is_absolute():
        return f"{name}: no run is there; was its folder moved or deleted?"
    if not runs:
        return f"there is no run under {root} ({OUTPUT_HINT}); `dltrain` trains one"
    return f"no run is called {name!r} under {root} ({OUTPUT_HINT}); the newest is {runs[-1]}"


def _matches(name: str, runs: list[Path], root: Path) -> list[Path]:
    """Return the runs whose path ends with `name`; if there are none, those that contain it."""
    paths = {run: f"/{run.relative_to(root).as_posix()}" for run in runs}
    ending = [run for run, path in paths.items() if path.endswith(f"/{name}")]
    return ending or [run for run, path in paths.items() if name in path]
