"""`dltrain.resume`: continue a run or a sweep, and return it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from dltrain.api.opening import open_run, options_for
from dltrain.api.overrides import overrides_of, with_plugins
from dltrain.api.process import isolated
from dltrain.api.run import Run, plugin_names
from dltrain.api.sweep import Sweep, ending_sweep, sweep_of
from dltrain.api.train import ending, run_of
from dltrain.errors import UsageError
from dltrain.options import Options
from dltrain.runs.continuation import continue_or_fork
from dltrain.sweeps.find import find_sweep
from dltrain.sweeps.run import resume_sweep

Setting = str | Mapping[str, Any]
Plugins = str | Sequence[str]


@overload
def resume(
    run: Sweep,
    *overrides: Setting,
    fork: bool = ...,
    plugins: Plugins = ...,
    verbose: bool = ...,
    **settings: Any,
) -> Sweep: ...


@overload
def resume(
    run: Run,
    *overrides: Setting,
    fork: bool = ...,
    plugins: Plugins = ...,
    verbose: bool = ...,
    **settings: Any,
) -> Run: ...


@overload
def resume(
    run: str | Path,
    *overrides: Setting,
    fork: bool = ...,
    plugins: Plugins = ...,
    verbose: bool = ...,
    **settings: Any,
) -> Any: ...


def resume(
    run: str | Path | Run | Sweep,
    *overrides: Setting,
    fork: bool = False,
    plugins: Plugins = (),
    verbose: bool = False,
    **settings: Any,
) -> Run | Sweep:
    """Continue a run where it stopped, or train a finished one longer, and return it.

    A sweep runs the trials that are not done, and is returned with the rows of all.

    Args:
        run: A run, its folder, a unique part of the folder's name, or `last`; or a sweep, or the
            name of its folder.
        overrides: Changed settings, such as "trainer.epochs=20"; of a sweep those of the launcher,
            and sweep.trials.
        fork: Continue in a new run's folder.
        plugins: The packages of the user's own classes in the run.
        verbose: Print messages and show the progress.
        settings: Further changed settings by name.

    Raises:
        InputError: The run is unknown, or its data or checkpoint is missing or broken.
        UsageError: The run is finished, or another process writes it; or the trials of a sweep
            would be others.
        ConfigError: The checkpoint cannot continue with the settings.
        RunInterrupted: Ctrl-C, a KeyboardInterrupt.
    """
    typed = overrides_of(overrides, settings)
    named_sweep = sweep_named(run, typed)
    if named_sweep is not None:
        require_no_fork(fork, named_sweep[0])
        names = [*plugin_names(plugins), *plugins_of(run)]
        return resumed_sweep(named_sweep[0], with_plugins(named_sweep[1], names), verbose)
    assert not isinstance(run, Sweep)
    folder, others = open_run(run, typed, plugins)
    options = options_for("resume", others, str(folder.folder))
    options.fork = fork
    with isolated(verbose), ending(options):
        continue_or_fork(folder, others, options)
    return run_of(options)


def sweep_named(
    run: str | Path | Run | Sweep, overrides: list[str]
) -> tuple[Path, list[str]] | None:
    """Return the folder of a sweep, and the overrides left to apply; None for a run."""
    if isinstance(run, Run):
        return None
    if isinstance(run, Sweep):
        return run.folder, overrides
    return find_sweep(Options(names=[str(run)], overrides=overrides))


def plugins_of(run: str | Path | Run | Sweep) -> tuple[str, ...]:
    """Return the plugins that a sweep has in Python; () for its folder."""
    return run.plugins if isinstance(run, Sweep) else ()


def require_no_fork(fork: bool, sweep: Path) -> None:
    """Raise UsageError if a sweep should be continued in another folder."""
    if fork:
        raise UsageError(f"{sweep} is a sweep: fork=True continues a single run in a new folder")


def resumed_sweep(folder: Path, overrides: list[str], verbose: bool) -> Sweep:
    """Run the trials of a sweep that are not done, and return the sweep."""
    options = options_for("resume", overrides, str(folder))
    with isolated(verbose), ending_sweep():
        rows = resume_sweep(folder, overrides, options)
    return sweep_of(options, rows)
