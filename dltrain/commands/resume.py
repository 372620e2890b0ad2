"""`dltrain resume RUN [overrides]`: go on where a run stopped, or extend a finished one."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from dltrain.callbacks.checkpoint import Checkpoint
from dltrain.commands.options import Options
from dltrain.commands.train import as_yaml, beginning, execute, remembered, unrepeated
from dltrain.config import check
from dltrain.config.changes import FUTURE, LENGTH, START, Change, changes, described
from dltrain.config.compose import Composed, compose_over
from dltrain.config.overrides import expand_home, take
from dltrain.config.own_settings import belongs
from dltrain.config.read import read_mapping
from dltrain.config.renamed import with_current_names
from dltrain.data.dataset import shown_names, unknown_classes
from dltrain.engine import Engine, Resume
from dltrain.errors import ConfigError, InputError, UsageError
from dltrain.experiment.experiment import Experiment
from dltrain.experiment.session import open_session
from dltrain.files import replace_file, writing
from dltrain.runs import checkpoint
from dltrain.runs.checkpoint import Store, commit
from dltrain.runs.folder import (
    CHECKPOINTS,
    CONFIG,
    MANIFEST,
    METRICS,
    READ_ONLY,
    RESULTS,
    TIMING,
    Run,
    find,
)
from dltrain.shell import shell_word
from dltrain.types import Data

log = logging.getLogger("dltrain")
VOCABULARIES = ("tokenizer", "target_tokenizer", "words")  # in the description of a data set


def resume(options: Options) -> None:
    run, overrides = find_run(options)
    if options.fork and not run.is_writable():  # nobody writes there, and nothing will be written
        go_on(run, overrides, options)
        return
    with run.locked():
        if not options.fork:
            run.require_writable()
        go_on(run, overrides, options)


def go_on(run: Run, overrides: list[str], options: Options) -> None:
    composed = saved_configuration(run, overrides)
    check.raise_all(composed)
    for line in check.unread(composed):
        log.warning(line)
    store = Store(run.folder / CHECKPOINTS)
    state = newest_state(run, store, options.fork)
    if state is not None:
        finished_unless_extended(run, composed, state)
    changed = changes(saved_configuration(run, []).public, composed.public)
    refused = [(change.key, change.effect) for change in changed if change.refused]
    if refused and state is not None:
        raise ConfigError(refused)
    where = Resume(state, store.stage_ends(state["index"])) if state is not None else None
    known = (
        None if any(change.key.startswith("dataset.") for change in changed) else run.description()
    )
    with remembered() as said:
        trial = continuing(composed, known, where)
        check_classes(trial.data, run)
        fingerprint = trial.data.fingerprint()
    if where is not None:  # nothing is written unless it fits
        replanned = rates(fitting(trial, where, changed), where.state, changed)
    for line in (*described(changed), *(replanned if where else [])):
        log.info(line)
    other_data = fingerprint != run.read_json(MANIFEST).get("dataset_fingerprint")
    if other_data:
        refuse_other_vocabulary(trial.data, run)
        log.warning(
            "the data set is not the one that the run began with: what follows is not what it would have been"
        )
    with unrepeated(said):
        experiment = continuing(composed, known, where)
        _ = experiment.data.train.samples  # reads the data set
    if options.fork:
        with forked(run, composed, trial, where, options).locked() as fork:
            continued(fork, composed, experiment, where, options, changed)
    else:
        continued(run, composed, experiment, where, options, changed)


def continuing(
    composed: Composed, description: dict[str, Any] | None, where: Resume | None
) -> Experiment:
    """Return the experiment that continues from `where`, or from the beginning without it."""
    to_continue = Experiment.to_restart if where is None else Experiment.to_resume
    return to_continue(composed.config, description).build()


def check_classes(data: Data, run: Run) -> None:
    """Raise InputError if the data has other classes than the run, or the same in another order.

    Their numbers would mean others.
    """
    known, here = (run.description() or {}).get("class_names"), list(data.spec.class_names)
    if not isinstance(known, list) or not known or not here or here == known:
        return
    trained = set(known)
    if unknown := [name for name in here if name not in trained]:
        raise unknown_classes(unknown, known)
    first = next(
        (k for k, pair in enumerate(zip(here, known, strict=False)) if pair[0] != pair[1]),
        len(here),
    )
    raise InputError(
        f"the data has the classes {shown_names(here[first:])}, "
        f"and the run {shown_names(known[first:])}, from class number {first} on; "
        "training can only continue with the same classes in the same order"
    )


def refuse_other_vocabulary(data: Data, run: Run) -> None:
    """Raise InputError for texts whose tokens have other numbers than those of the run."""
    trained, here = run.description() or {}, data.description()
    for key in VOCABULARIES:
        if trained.get(key) != here.get(key):
            raise InputError(
                f"the texts give another vocabulary ({key}) than the run has, so its token numbers do not fit them; "
                "train a new run"
            )


def newest_state(run: Run, store: Store, fork: bool) -> dict[str, Any] | None:
    """The state to go on from: of the newest whole checkpoint, or of the one that was named; None before the first.

    InputError where none is whole, or the one that was named is not; UsageError for one with newer ones after it, unless
    the run is forked there.
    """
    if run.checkpoint is not None and (fork or run.checkpoint not in store.steps()[:-1]):
        return checked(run.checkpoint, checkpoint.load(run.checkpoint))
    if run.checkpoint is not None:
        raise UsageError(
            f"{run.checkpoint} is not the newest checkpoint of its run: --fork goes on from it in a new run"
        )
    if not run.is_writable():
        found = store.read("last")
        return checked(*found) if found is not None else None
    with writing(run.folder, READ_ONLY):
        newest = store.recover()
    if newest is None:
        log.info(f"{run.folder} has no checkpoint yet: it begins at step 0")
        return None
    return checked(newest, checkpoint.load(newest))


def checked(folder: Path, state: dict[str, Any]) -> dict[str, Any]:
    """The state of an engine; InputError where it is something else, though it was written whole."""
    kinds = {
        "index": int,
        "step": int,
        "epoch": int,
        "position": int,
        "name": str,
        "task": dict,
        "optims": list,
    }
    kinds |= {"callbacks": dict, "batches": dict}
    wrong = [key for key, kind in kinds.items() if not isinstance(state.get(key), kind)]
    wrong += [
        key for key in ("index", "step", "epoch", "position") if key not in wrong and state[key] < 0
    ]
    if not wrong and not all(
        isinstance(saved, dict) for saved in (*state["optims"], *state["callbacks"].values())
    ):
        wrong = ["optims", "callbacks"]
    if wrong:
        raise InputError(
            f"{folder} is no checkpoint of a run: its {', '.join(wrong)} cannot be what was saved"
        )
    return state


def continued(
    run: Run,
    composed: Composed,
    experiment: Experiment,
    where: Resume | None,
    options: Options,
    changed: list[Change],
) -> None:
    """Train on in `run`'s folder, from `where` or from the beginning; what was logged after it is dropped."""
    session = open_session(experiment, run, options.command, composed.public)
    store = session.checkpoint.store
    step = where.state["step"] if where else 0
    record = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": options.command,
        "step": step,
    }
    manifest = run.read_json(MANIFEST)
    history = [
        *manifest.get("resumed", []),
        {**record, "changed": {c.key: c.after for c in changed}},
    ]
    if "settings" in manifest:
        manifest["settings"] |= {c.key: c.after for c in changed if belongs(c.key)}
    with writing(run.folder, READ_ONLY):
        run.cut_back(TIMING, step)
        if where is None:
            run.keep(METRICS, 0)
        run.write_json(MANIFEST, {**manifest, "config": composed.public, "resumed": history})
        replace_file(run.folder / CONFIG, as_yaml(composed.public))
        store.forget_stage_ends(where.state["index"] if where else 0)
    if where is not None:
        state = where.state
        log.info(f"resuming at step {step} (epoch {state['epoch'] + 1})")
        where.extended = any(key.startswith("trainer.") for key in composed.typed)
    execute(session, options.outcome, where)


@contextmanager
def answering(engine: Engine) -> Iterator[None]:
    """Inside, the task answers as it was scored: in evaluation, by averaged weights where its last stage averages."""
    engine.task.eval()
    with ExitStack() as stack:
        for optim in engine.stage.optims:
            stack.enter_context(optim.averaged())
        stack.enter_context(torch.no_grad())
        stack.enter_context(engine.autocast)
        yield


def forked(
    run: Run, composed: Composed, experiment: Experiment, where: Resume | None, options: Options
) -> Run:
    """A new run that begins as a copy of `run` where it stands, and names it as its parent."""
    state = where.state if where else {"step": 0}
    known = run.read_json(MANIFEST)
    kept = {"settings": known["settings"]} if "settings" in known else {}
    parent = {"run": str(run.folder), "step": state["step"]}
    contents = beginning(experiment, composed, options, parent=parent, **kept)
    name = run.folder.name.partition("_")[2] or run.folder.name
    typed, _ = take(options.overrides, ["paths.output"])
    root = expand_home(typed.get("paths.output", composed.config["paths"]["output"]))
    new = Run.create(Path(root), f"{name}_fork", contents)
    with writing(new.folder):
        copy_state(run, new, where)
    log.info(f"a fork of {run.folder}")
    return new


def copy_state(run: Run, new: Run, where: Resume | None) -> None:
    """Copy what `run` has logged and saved, as far as `where`, into the new run's folder."""
    if where is None:
        return
    state = where.state
    for log_file in (METRICS, TIMING):
        if (run.folder / log_file).exists():
            shutil.copyfile(run.folder / log_file, new.folder / log_file)
    ends = Store(run.folder / CHECKPOINTS), Store(new.folder / CHECKPOINTS)
    for index, end in where.stage_ends.items():
        commit(ends[1].stage_end(index, end["step"]), end, {"step": end["step"]})
    best = best_of(ends[0], state)
    if best is not None:
        commit(
            ends[1].folder / best[0].name, best[1], {"step": best[1]["step"], "points": ["best"]}
        )
        ends[1].point("best", best[0].name)
    if best is None or best[1]["step"] != state["step"]:
        commit(
            ends[1].folder / ends[1].new_name(state["step"]),
            state,
            {"step": state["step"], "points": ["last"]},
        )


def best_of(store: Store, state: dict[str, Any]) -> tuple[Path, dict[str, Any]] | None:
    """The checkpoint that `state` calls the best so far, if it is still there."""
    best = Checkpoint.best_in(state)
    found = store.read("best") if best else None
    return found if found and found[1]["step"] == best["step"] else None


def rates(engine: Engine, state: dict[str, Any], changed: list[Change]) -> list[str]:
    """What becomes of the learning rate where the schedule is planned anew."""
    if not any(
        c.effect == FUTURE and c.key.startswith(("optimizer.", "schedule.", *LENGTH))
        for c in changed
    ):
        return []
    lines = []
    for optim, saved in zip(engine.stage.optims, state["optims"], strict=True):
        if optim.schedule and saved["updates"]:
            before = saved["optimizer"]["param_groups"][0]["lr"]
            after = optim.base_lrs[0] * optim.schedule.factor(optim.updates)
            lines.append(
                f"the schedule is planned anew over {optim.total_updates:,} updates and goes on at {optim.updates:,}: "
                f"the learning rate was {before:.3g} and is {after:.3g} next"
            )
    return lines


def fitting(experiment: Experiment, where: Resume, changed: list[Change]) -> Engine:
    """`position`, where it is the changes' fault if the checkpoint does not fit (ConfigError)."""
    try:
        return position(experiment, where)
    except InputError as e:
        blamed = [c.key for c in changed if c.effect == FUTURE and not c.key.startswith("trainer.")]
        if not blamed:
            raise
        raise ConfigError([(", ".join(blamed), f"{e}; {START}")]) from e


def position(experiment: Experiment, where: Resume) -> Engine:
    """An engine without callbacks that stands where a checkpoint was taken; InputError if the checkpoint does not fit."""
    task = experiment.task
    engine = Engine((), experiment.device.mover(), experiment.device.autocast())
    try:
        engine.position_at(task, where)
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError, StopIteration) as e:
        first = " ".join(str(e).split())[:300]
        raise InputError(
            f"the checkpoint does not fit the configuration as it is now: {first}"
        ) from e
    return engine


def trained_state(run: Run, pointer: str) -> tuple[Path, Resume]:
    """The checkpoint to evaluate or predict with: the one that was named, else the `best` or the `last`; InputError where
    there is none, or it is not whole. The run may go on meanwhile."""
    store = Store(run.folder / CHECKPOINTS)
    if run.checkpoint is not None:
        folder, state = run.checkpoint, checkpoint.load(run.checkpoint)
    elif found := store.read(pointer) or store.read("last"):
        folder, state = found
    else:
        raise InputError(f"{run.folder} has no checkpoint yet")
    return folder, Resume(checked(folder, state), store.stage_ends(state["index"]))


def find_run(options: Options) -> tuple[Run, list[str]]:
    """The run that the first word names, looked for under paths.output as the overrides set it."""
    if not options.names:
        raise UsageError(
            "which run? Name its folder, a unique part of the folder's name, or `last`, the newest"
        )
    own, rest = take(options.overrides, ["paths.output"])
    root = Path(expand_home(own.get("paths.output", "outputs")))
    return find(options.names[0], root), rest


def saved_configuration(run: Run, overrides: list[str]) -> Composed:
    """The run's configuration with `overrides` over it. It is data: it names no plugins unless they are named again."""
    saved = read_mapping(run.folder / CONFIG, InputError)
    if not saved:
        raise InputError(f"{run.folder / CONFIG} is not a configuration: it is empty")
    return compose_over({**with_current_names(saved), "plugins": []}, overrides)


def finished_unless_extended(run: Run, composed: Composed, state: dict[str, Any]) -> None:
    """UsageError if nothing is left to do, with what to type to train longer."""
    trainer = composed.config["trainer"]
    if run.read_json(RESULTS).get("status") not in ("completed", "stopped"):
        return
    typed = {
        key
        for key in composed.typed
        if key in ("trainer.epochs", "trainer.steps", "trainer.max_seconds")
    }
    done_epochs = trainer["epochs"] is not None and state["epoch"] >= trainer["epochs"]
    done_steps = trainer["steps"] is not None and state["step"] >= trainer["steps"]
    if done_epochs or done_steps or not typed:
        more = []
        if trainer["epochs"] is not None and (done_epochs or trainer["steps"] is None):
            more.append(f"trainer.epochs={state['epoch'] + max(trainer['epochs'], 1)}")
        if trainer["steps"] is not None:
            more.append(f"trainer.steps={2 * max(state['step'], 1)}")
        raise UsageError(
            f"{run.folder} is finished ({state['epoch']} epochs, {state['step']} steps); "
            f"to train it longer: dltrain resume {shell_word(str(run.folder))} {' '.join(more) or 'trainer.max_seconds=600'}"
        )
