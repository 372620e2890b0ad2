"""Continuing a run where it stopped, extending a finished one, or continuing a fork of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

from dltrain.config import check
from dltrain.config.changes import (
    FUTURE,
    LENGTH,
    START,
    Change,
    changes,
    described,
    refused_in_stage,
)
from dltrain.config.checking.combinations import unread
from dltrain.config.compose import Composed
from dltrain.data.dataset import shown_names, unknown_classes
from dltrain.engine import Callback, Engine, Resume
from dltrain.errors import ConfigError, InputError, UsageError
from dltrain.experiment.experiment import Experiment
from dltrain.experiment.session import execute, open_session
from dltrain.optim import Optim
from dltrain.options import Options
from dltrain.report.text import counted_noun
from dltrain.runs.checkpoint import Store
from dltrain.runs.folder import CHECKPOINTS, FINISHED, MANIFEST, RESULTS, RunFolder
from dltrain.runs.log_file import buffered_records, without_repeats
from dltrain.runs.open import position, saved_configuration
from dltrain.runs.replan import Replanned, replan
from dltrain.runs.resume import fork_run, newest_state, prepare_folder
from dltrain.shell import shell_word
from dltrain.types import Data
from dltrain.weights.initial import VOCABULARIES

log = logging.getLogger("dltrain")
EXTENDING = {"trainer.epochs", "trainer.steps", "trainer.stage_steps", "trainer.max_seconds"}


def continue_or_fork(run: RunFolder, overrides: list[str], options: Options) -> None:
    """Continue `run`, or with `options.fork` a copy of it; add the results to `options.outcome`.

    Raises:
        UsageError: The run is finished or locked, or its folder cannot be written.
        ConfigError: The checkpoint cannot continue with the overrides.
        InputError: The data or the checkpoint is absent, broken or another one's.
    """
    if options.fork and not run.is_writable():  # nobody writes there, and nothing will be written
        continue_run(run, overrides, options)
        return
    with run.locked():
        if not options.fork:
            run.require_writable()
        continue_run(run, overrides, options)


@dataclass(frozen=True)
class Plan:
    """The way a run continues: its configuration, the checkpoint (if any), and what has changed.

    `description` is that of its data, unless the settings of the data set have changed.
    """

    composed: Composed
    where: Resume | None
    changed: list[Change]
    description: dict[str, Any] | None

    def build(self) -> Experiment:
        """Build the experiment that continues."""
        config = self.composed.config
        if self.where is None:
            return Experiment.to_restart(config, self.description).build()
        return Experiment.to_resume(config, self.description).build()


def continue_run(
    run: RunFolder, overrides: list[str], options: Options, more: Sequence[Callback] = ()
) -> None:
    """Continue `run` with `overrides`; nothing is written unless its checkpoint fits.

    `more` are callbacks in addition to the usual ones.
    """
    plan = plan_from(run, overrides, options.fork)
    with buffered_records() as records:
        trial = plan.build()
        require_same_classes(trial.data, run)
        fingerprint = trial.data.fingerprint()
    plan = fitted_plan(trial, plan)
    if fingerprint != run.read_json(MANIFEST).get("dataset_fingerprint"):
        require_same_vocabulary(trial.data, run)
        log.warning(
            "the data set is not the one that the run began with: "
            "the results will differ from those of a run without interruption, and samples that "
            "are drawn for validation or testing now may have been trained on before"
        )
    with without_repeats(records):
        experiment = plan.build()
        _ = experiment.data.train.samples  # reads the data set
    if not options.fork:
        train_on(run, experiment, plan, options, more)
        return
    with fork_run(run, plan.composed, trial, plan.where, options).locked() as fork:
        train_on(fork, experiment, plan, options)


def plan_from(run: RunFolder, overrides: list[str], fork: bool) -> Plan:
    """Return how the run continues; UsageError or ConfigError if it cannot."""
    composed = saved_configuration(run, overrides)
    check.raise_all(composed)
    for line in unread(composed):
        log.warning(line)
    store = Store(run.folder / CHECKPOINTS)
    state = newest_state(run, store, fork)
    if state is not None:
        require_extension(run, composed, state)
    changed = changes(saved_configuration(run, []).public, composed.public)
    where = None
    if state is not None:
        require_allowed([*changed, *refused_in_stage(changed, state["index"])])
        where = Resume(state, store.stage_ends(state["index"]))
        where.extended = any(key.startswith("trainer.") for key in composed.typed)
    description = None
    if not any(change.key.startswith("dataset.") for change in changed):
        description = run.description()
    return Plan(composed, where, changed, description)


def fitted_plan(trial: Experiment, plan: Plan) -> Plan:
    """Return the plan with the checkpoint's place in it, and print what has changed.

    Raises ConfigError or InputError if the checkpoint does not fit the experiment.
    """
    lines = described(plan.changed)
    if plan.where is not None:
        engine = position_after(trial, plan.where, plan.changed)
        continues = trial.data.spec.continues
        fitted = replan(engine, plan.where.state, trial.trainer, continues, plan.changed)
        lines += [*fitted.lines, *learning_rate_lines(engine, plan, fitted)]
        plan = replace(plan, where=replace(plan.where, state=fitted.state))
    for line in lines:
        log.info(line)
    return plan


def require_extension(run: RunFolder, composed: Composed, state: dict[str, Any]) -> None:
    """Raise UsageError if the run is finished, with what to type to train it longer."""
    if run.read_json(RESULTS).get("status") not in FINISHED:
        return
    trainer = composed.config["trainer"]
    is_done = reached(state["epoch"], trainer["epochs"]) or reached(state["step"], trainer["steps"])
    if trainer["stage_steps"] is not None and "trainer.stage_steps" not in composed.typed:
        is_done = True
    if not is_done and composed.typed.keys() & EXTENDING:
        return
    command = f"dltrain resume {shell_word(str(run.folder))}"
    epochs = counted_noun(state["epoch"], "epoch")
    raise UsageError(
        f"{run.folder} is finished ({epochs}, {counted_noun(state['step'], 'step')}); "
        f"to train it longer: {command} {' '.join(longer_limits(trainer, state))}"
    )


def longer_limits(trainer: dict[str, Any], state: dict[str, Any]) -> list[str]:
    """Return overrides of every limit that a run at `state` has reached or will soon reach."""
    epochs = trainer["epochs"]
    overrides = longer_steps(trainer, state)
    if reached(state["epoch"], epochs) or (epochs is not None and not overrides):
        overrides.insert(0, f"trainer.epochs={state['epoch'] + max(epochs, 1)}")
    return overrides or ["trainer.max_seconds=600"]


def longer_steps(trainer: dict[str, Any], state: dict[str, Any]) -> list[str]:
    """Return overrides of the limits of steps, each twice as long."""
    overrides = []
    if trainer["steps"] is not None:
        overrides.append(f"trainer.steps={2 * max(state['step'], 1)}")
    if trainer["stage_steps"] is not None:
        overrides.append(f"trainer.stage_steps={2 * trainer['stage_steps']}")
    return overrides


def reached(count: int, limit: int | None) -> bool:
    """Tell if so many epochs or steps reach the limit, if there is one."""
    return limit is not None and count >= limit


def require_allowed(changed: list[Change]) -> None:
    """Raise ConfigError for changes that a checkpoint cannot continue with."""
    refused = [(change.key, change.effect) for change in changed if change.refused]
    if refused:
        raise ConfigError(refused)


def require_same_classes(data: Data, run: RunFolder) -> None:
    """Raise InputError if the data has other classes than the run, or the same in another order.

    Class numbers would mean other classes.
    """
    description = run.description() or {}
    known = description.get("class_names")
    current = list(data.spec.class_names)
    if not isinstance(known, list) or not known or not current:
        return
    unknown = sorted(set(current).difference(known), key=current.index)
    if unknown:
        raise unknown_classes(unknown, known)
    first = first_difference(known, current)
    if first is not None:
        raise InputError(
            f"the data has the classes {shown_names(current[first:])}, "
            f"and the run {shown_names(known[first:])}, from class number {first} on; "
            "training can only continue with the same classes in the same order"
        )


def first_difference(one: list[str], other: list[str]) -> int | None:
    """Return the first index at which two lists differ; None if they are equal."""
    for i, (a, b) in enumerate(zip_longest(one, other)):
        if a != b:
            return i
    return None


def require_same_vocabulary(data: Data, run: RunFolder) -> None:
    """Raise InputError for texts whose tokens have other numbers than those of the run."""
    trained = run.description() or {}
    current = data.description()
    for key in VOCABULARIES:
        if trained.get(key) != current.get(key):
            raise InputError(
                f"the texts give another vocabulary ({key}) than the run has, so its token numbers "
                "do not fit them; train a new run"
            )


def position_after(experiment: Experiment, where: Resume, changed: list[Change]) -> Engine:
    """Return an engine at the checkpoint; ConfigError naming the changes that may not fit it."""
    try:
        return position(experiment, where)
    except InputError as e:
        suspects = [change.key for change in changed if affects_shape(change)]
        if not suspects:
            raise
        raise ConfigError([(", ".join(suspects), f"{e}; {START}")]) from e


def affects_shape(change: Change) -> bool:
    """Tell if a change may be the reason that a checkpoint does not fit."""
    return change.effect == FUTURE and not change.key.startswith("trainer.")


def affects_schedule(change: Change) -> bool:
    """Tell if a change affects the schedule that is left."""
    return change.effect == FUTURE and change.key.startswith(("optimizer.", "schedule.", *LENGTH))


def learning_rate_lines(engine: Engine, plan: Plan, fitted: Replanned) -> list[str]:
    """Return a line for each schedule that changes, with the learning rate before and after."""
    assert plan.where is not None
    is_affected = any(map(affects_schedule, plan.changed))
    if not is_affected and fitted.state is plan.where.state:
        return []
    pairs = zip(engine.stage.optims, fitted.state["optims"], strict=True)
    lines = [learning_rate_line(optim, saved, is_affected) for optim, saved in pairs]
    return [line for line in lines if line]


def learning_rate_line(optim: Optim, saved: dict[str, Any], is_affected: bool) -> str:
    """Return the line of a schedule that has begun and is not over; "" if nothing changes."""
    updates = saved["updates"]
    if not optim.schedule or not 0 < updates < optim.total_updates:
        return ""
    before = saved["optimizer"]["param_groups"][0]["lr"]
    after = optim.base_lrs[0] * optim.schedule.factor(updates)
    if before == after and not is_affected:
        return ""
    return (
        f"the schedule now spans {optim.total_updates:,} updates and continues at update "
        f"{updates:,}: the learning rate changes from {before:.3g} to {after:.3g}"
    )


def train_on(
    run: RunFolder,
    experiment: Experiment,
    plan: Plan,
    options: Options,
    more: Sequence[Callback] = (),
) -> None:
    """Train in `run`'s folder from a checkpoint on, or from the beginning if there is none."""
    where = plan.where
    session = open_session(experiment, run, options.command, plan.composed.public, more)
    prepare_folder(run, plan.composed, options, where, plan.changed)
    if where is not None:
        log.info(f"resuming at step {where.state['step']} (epoch {where.state['epoch'] + 1})")
    execute(session, options.outcome, where)
