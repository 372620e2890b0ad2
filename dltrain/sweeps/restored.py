"""The trials of a sweep that was begun, rebuilt from its journal if they are still the same."""

from __future__ import annotations

import logging
from pathlib import Path

from dltrain.config.command_groups import of_run
from dltrain.config.compose import compose
from dltrain.config.overrides import raise_problems
from dltrain.errors import InputError, UsageError
from dltrain.options import Options
from dltrain.runs.identity import identity
from dltrain.sweeps.definition import require_same_settings
from dltrain.sweeps.journal import Journal, mend_journal, read_journal
from dltrain.sweeps.plan import PLUGINS, SweepPlan, key_in
from dltrain.sweeps.trial import Trial, trials_of

log = logging.getLogger("dltrain")


def restored(folder: Path, plan: SweepPlan, options: Options) -> dict[int, Trial]:
    """Return the trials of a sweep that was begun, and tell the sampler of them.

    Raises UsageError if the configuration files have changed, so that a trial is another one.
    """
    events = read_journal(folder)
    require_same_settings(events[0].get("settings"), plan.settings, folder)
    mend_journal(folder, events)
    trials = trials_of(events, folder)
    for trial in trials.values():
        require_same_trial(trial, folder)
        require_same_plugins(trial, plan, folder)
    plan.sampler.restore([trials[number] for number in sorted(trials)])
    Journal(folder).append("resume", command=options.command)
    done = sum(trial.is_done for trial in trials.values())
    total = plan.sampler.total()
    following = "the others follow" if done < total else "nothing is left to do"
    log.info(f"{folder}: {done} of {total} trials are done; {following}")
    return trials


def require_same_plugins(trial: Trial, plan: SweepPlan, folder: Path) -> None:
    """Raise InputError if a trial names plugins that the command does not: they are code."""
    for override in trial.overrides:
        if key_in(override) == PLUGINS and override not in plan.overrides:
            raise InputError(
                f"{folder}: trial {trial.number} has {override}, which its sweep has not; "
                "the file was changed"
            )


def require_same_trial(trial: Trial, folder: Path) -> None:
    """Raise UsageError if a trial's overrides no longer mean the configuration that they did."""
    if trial.is_done:
        return
    composed = compose(trial.overrides)
    if identity(of_run(composed).public) != trial.identity:
        raise_problems(composed.problems)
        raise UsageError(
            f"{folder}: trial {trial.number} ({' '.join(trial.overrides)}) now has another "
            "configuration than when the sweep began, since a file of options or an environment "
            "variable has changed; undo that, or start a new sweep"
        )
