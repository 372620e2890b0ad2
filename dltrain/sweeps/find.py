"""Finding a sweep by its folder or a part of the folder's name."""

from __future__ import annotations

from pathlib import Path

from dltrain.config.overrides import expand_home, take
from dltrain.errors import InputError
from dltrain.options import Options
from dltrain.report.text import counted_noun
from dltrain.runs.find import LAST, LAST_ANY, MAX_CANDIDATES, all_runs
from dltrain.shell import shell_word
from dltrain.sweeps.journal import JOURNAL, read_journal
from dltrain.sweeps.trial import trials_of


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
    matches = [sweep for sweep in all_sweeps(root) if is_in_path(name, sweep, root)]
    others_match = any(
        is_in_path(name, run, root) for run in all_runs(root) if run.parent not in matches
    )
    if not matches or others_match:
        return None
    if len(matches) > 1:
        candidates = "\n".join(f"  {sweep}" for sweep in matches[-MAX_CANDIDATES:])
        raise InputError(f"{name!r} could be any of {len(matches)} sweeps; name one\n{candidates}")
    return matches[0], others


def is_in_path(name: str, folder: Path, root: Path) -> bool:
    """Tell if a folder's path below the root contains a name."""
    return name in folder.relative_to(root).as_posix()


def all_sweeps(root: Path) -> list[Path]:
    """Return the folder of every sweep under `root`, oldest first."""
    folders = [path.parent for path in root.glob(f"*/*/{JOURNAL}")]
    return sorted(folder for folder in folders if not folder.parent.name.startswith("."))


def hint_on_sweep(run: Path) -> str:
    """Return how to complete the sweep that a run is a job of; "" if no trial of it is left.

    A journal that cannot be read gives no hint.
    """
    sweep = run.parent
    if not (sweep / JOURNAL).is_file():
        return ""
    try:
        trials = trials_of(read_journal(sweep), sweep)
    except InputError:
        return ""
    left = sum(not trial.is_done for trial in trials.values())
    if not left:
        return ""
    return (
        f"{run} is one run of a sweep with {counted_noun(left, 'unfinished trial')}; "
        f"`dltrain resume {shell_word(str(sweep))}` completes the sweep"
    )
