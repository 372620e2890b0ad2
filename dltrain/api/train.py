"""`dltrain.train`: train a run and return it."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dltrain.api.opening import options_for
from dltrain.api.overrides import overrides_of, plugins_in
from dltrain.api.process import isolated
from dltrain.api.run import Run
from dltrain.config import check
from dltrain.config.compose import Composed, compose
from dltrain.config.groups import config_dir as options_in
from dltrain.errors import DltrainError, Interrupted, UsageError, rebuilt
from dltrain.options import Options
from dltrain.runs import automatic
from dltrain.runs.identity import FOLD_KEY
from dltrain.sweeps.folds import FOLDS, wants_all_folds

KEEP_MEMORY = "device.keep_freed_memory"


class RunInterrupted(KeyboardInterrupt):
    """Ctrl-C, or another signal, that ended a training after its current step.

    A checkpoint is saved; `dltrain.resume(error.run)` continues to the identical result. `run` is
    None if the signal came before the run had a folder. For a sweep, `sweep` is what it has done,
    and `dltrain.resume(error.sweep)` completes it.
    """

    def __init__(self, reason: str, run: Run | None, sweep: Any = None) -> None:
        self.run = run
        self.sweep = sweep
        text = reason
        if run is not None and sweep is None:
            text = f"{reason}; dltrain.resume({str(run.folder)!r}) continues the run"
        super().__init__(text)

    def __reduce__(self) -> tuple[Any, ...]:
        """Let another process have the error, as pools of processes pass it on."""
        return rebuilt, (type(self), self.args, self.__dict__)


def train(
    *overrides: str | Mapping[str, Any],
    verbose: bool = False,
    config_dir: str | Path | None = None,
    **settings: Any,
) -> Run:
    """Train an experiment, test its best checkpoint and return the run.

    Settings are overrides as on the command line, mappings, or keyword arguments:
    `train("model=cnn", {"optimizer": {"lr": 1e-3}}, dataset="mnist")`. A class of the program's own
    may stand where a configuration names one: `train(model=Net)`, or, with arguments,
    `train(model={"_target_": Net, "width": 8})`.

    The numbers are those of the command line with the same settings. All that the run changes in
    the process is as before afterwards (`dltrain.api.process`); freed memory is kept by the process
    only with `device.keep_freed_memory=true` among the settings, because that lasts.

    Args:
        overrides: Settings, the last of a key counts.
        verbose: Print messages and show the progress.
        config_dir: A folder with options of one's own, as --config-dir.
        settings: Further settings by name.

    Raises:
        ConfigError: Something is wrong with the settings; `problems` has all of it.
        InputError: The data set is missing or broken.
        DivergedError: The loss is not finite any more.
        RunInterrupted: Ctrl-C, a KeyboardInterrupt.
    """
    typed = overrides_of(overrides, settings)
    options = options_for("train", typed)
    with options_in(text_of(config_dir)):
        composed = compose(typed)
        require_one_run(composed)
        check.raise_all(composed)
        with isolated(verbose, may_keep_memory(composed)), ending(options):
            automatic.train(composed, options)
    return run_of(options)


def require_one_run(composed: Composed) -> None:
    """Raise UsageError for settings that train a run for each fold."""
    if wants_all_folds(composed.config):
        raise UsageError(
            f"dataset.folds={composed.config['dataset'][FOLDS]} trains a run for each fold: "
            f"dltrain.sweep(...) does, with the same settings; {FOLD_KEY}=0 is one of them"
        )


def text_of(path: str | Path | None) -> str | None:
    """Return a path as text; None for None."""
    return None if path is None else str(path)


def may_keep_memory(composed: Composed) -> bool:
    """Tell if the settings ask for what outlasts the run: that the process keeps freed memory."""
    return KEEP_MEMORY in composed.typed


def run_of(options: Options) -> Run:
    """Return the run whose results are in the outcome of `options`."""
    return Run(options.outcome["run"], plugins=plugins_in(options.overrides))


@contextmanager
def ending(options: Options) -> Iterator[None]:
    """Raise what ends a run as Python knows it, and name the run's folder in errors."""
    try:
        yield
    except Interrupted as e:
        number = e.exit_code - 128
        if (
            number != signal.SIGINT
        ):  # the program's own handler decides; by default the process ends
            signal.raise_signal(number)
        raise RunInterrupted(str(e), interrupted_run(options)) from e
    except DltrainError as e:
        if "run" in options.outcome:
            e.add_note(f"the run's folder is {options.outcome['run']}")
        raise


def interrupted_run(options: Options) -> Run | None:
    """Return the run that was interrupted; None if it has no folder."""
    if "run" not in options.outcome:
        return None
    return run_of(options)
