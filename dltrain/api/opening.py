"""Opening a run by what a Python program calls it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dltrain.api.overrides import with_plugins
from dltrain.api.run import Run, plugin_names
from dltrain.options import Options
from dltrain.runs.folder import RunFolder
from dltrain.runs.open import find_run


def options_for(verb: str, overrides: list[str], *names: str) -> Options:
    """Return the options of the command that does the same, for the run's manifest."""
    words = [*names, *overrides]
    if verb != "train":
        words.insert(0, verb)
    return Options(argv=words, names=list(names), overrides=overrides)


def open_run(
    run: str | Path | Run, overrides: list[str], plugins: str | Sequence[str] = ()
) -> tuple[RunFolder, list[str]]:
    """Return a run's folder, and the overrides to apply, which name the `plugins`.

    A name is looked for under paths.output as the overrides set it. Raises InputError if there is
    no such run, or there are several.
    """
    named = [*plugin_names(plugins)]
    name = str(run)
    if isinstance(run, Run):
        named += run.plugins
        name = str(run.folder)
    folder, others = find_run(Options(names=[name], overrides=overrides))
    return folder, with_plugins(others, named)
