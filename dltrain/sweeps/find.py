"""Finding a sweep by its folder or a part of the folder's name."""

from __future__ import annotations

from pathlib import Path

from dltrain.config.overrides import expand_home, take
from dltrain.errors import InputError
from dltrain.options import Options
from dltrain.runs.find import LAST, LAST_ANY, MAX_CANDIDATES, all_runs
from dltrain.sweeps.journal import JOURNAL


def find_sweep(options: Options) -> tuple[Path, list[str]] | None:
    """Return the sweep that the first word after the verb names, and the overrides left to apply.

    It is a sweep's folder, or a part of the folder's path that no run outside the sweep has. Return
    None if the word means a run, or nothing.

    Raises:
        InputError: Several sweeps have the name.
    """
    if not options.names or options.names[0] in (LAST, LAST_ANY):
        return None
    paths, others = take(options.overrides, ["paths.output"])
    root = Path(expand_home(paths.get("paths.output", "outputs")))
    name = options.names[0]
    if (Path(name) / JOURNAL).is_file():
        return Path(name), options.overrides
    matches = [sweep for sweep in all_sweeps(root) if name in sweep.relative_to(root).as_posix()]
    if not matches:
        return None
    for run in all_runs(root):
        if run.parent not in matches and name in run.relative_to(root).as_posix():
            return None
    if len(matches) > 1:
        candidates = "\n".join(f"  {sweep}" for sweep in matches[-MAX_CANDIDATES:])
        raise InputError(f"{name!r} could be any of {len(matches)} sweeps; name one\n{candidates}")
    return matches[0], others


def all_sweeps(root: Path) -> list[Path]:
    """Return the folder of every sweep under `root`, oldest first."""
    folders = [path.parent for path in root.glob(f"*/*/{JOURNAL}")]
    return sorted(folder for folder in folders if not folder.parent.name.startswith("."))
