"""`dltrain resume RUN [overrides]`: go on where a run stopped, or extend a finished one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import yaml

from dltrain import build, checkpoint
from dltrain.build import Experiment
from dltrain.checkpoint import Store
from dltrain.commands.options import Options
from dltrain.commands.train import execute
from dltrain.config import check
from dltrain.config.compose import Composed, compose_over
from dltrain.engine import Engine, Resume
from dltrain.errors import InputError, UsageError
from dltrain.run import CONFIG, RESULTS, TIMING, Run, find

log = logging.getLogger("dltrain")


def resume(options: Options) -> None:
    run, overrides = find_run(options)
    with run.locked():
        go_on(run, overrides, options)


def go_on(run: Run, overrides: list[str], options: Options) -> None:
    composed = saved_configuration(run, overrides)
    check.raise_all(composed)
    store = Store(run.folder / "checkpoints")
    newest = store.pointed("last")
    if newest is None:
        raise InputError(
            f"{run.folder} has no checkpoint to resume from; `dltrain` with the same overrides starts anew"
        )
    state = checkpoint.load(newest)
    finished_unless_extended(run, composed, state)
    position(
        build.build(composed.config, trained=True), Resume(state, store.stage_ends())
    )  # nothing is written unless it fits
    experiment = build.build(composed.config, trained=True)
    _ = experiment.data.train.samples  # reads the data set
    session = build.session(experiment, run, options.command)
    for line in check.unread(composed):
        log.warning(line)
    run.cut_back(TIMING, state["step"])
    (run.folder / CONFIG).write_text(yaml.safe_dump(composed.config, sort_keys=False), encoding="utf-8")
    log.info(f"resuming at step {state['step']} (epoch {state['epoch'] + 1}) from {newest.name}")
    if any(key.startswith("trainer.") for key in composed.typed):  # more is wanted of a stage that had ended itself
        state["stage_ended"] = False
        state["callbacks"].get("early_stopping", {})["waited"] = 0
    execute(session, options.outcome, Resume(state, store.stage_ends()))


def position(experiment: Experiment, where: Resume) -> Engine:
    """An engine without callbacks that stands where a checkpoint was taken; InputError if the checkpoint does not fit."""
    engine = Engine((), experiment.device.mover(), experiment.device.autocast())
    try:
        engine.position_at(experiment.task, where)
    except (RuntimeError, ValueError) as e:
        first = " ".join(str(e).split())[:300]
        raise InputError(f"the checkpoint does not fit the configuration as it is now: {first}") from e
    return engine


def find_run(options: Options) -> tuple[Run, list[str]]:
    """The run that the first word names, looked for under paths.output as the overrides set it."""
    if not options.names:
        raise UsageError("which run? Name its folder, a unique part of the folder's name, or `last`, the newest")
    root, rest = Path("outputs"), []
    for override in options.overrides:
        key, _, value = override.partition("=")
        if key == "paths.output":
            root = Path(value).expanduser()
        else:
            rest.append(override)
    return find(options.names[0], root), rest


def saved_configuration(run: Run, overrides: list[str]) -> Composed:
    """The run's configuration with `overrides` over it. It is data: it names no plugins unless they are named again."""
    try:
        saved: Any = yaml.safe_load((run.folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as e:
        raise InputError(f"{run.folder / CONFIG} cannot be read: {e}") from e
    if not isinstance(saved, dict):
        raise InputError(f"{run.folder / CONFIG} is not a configuration")
    return compose_over({**saved, "plugins": []}, overrides)


def finished_unless_extended(run: Run, composed: Composed, state: dict[str, Any]) -> None:
    """UsageError if nothing is left to do, with what to type to train longer."""
    trainer = composed.config["trainer"]
    if run.read_json(RESULTS).get("status") not in ("completed", "stopped"):
        return
    typed = {key for key in composed.typed if key in ("trainer.epochs", "trainer.steps", "trainer.max_seconds")}
    done_epochs = trainer["epochs"] is not None and state["epoch"] >= trainer["epochs"]
    done_steps = trainer["steps"] is not None and state["step"] >= trainer["steps"]
    if done_epochs or done_steps or not typed:
        more = (
            f"trainer.epochs={state['epoch'] + (trainer['epochs'] or 5)}"
            if trainer["steps"] is None
            else f"trainer.steps={2 * state['step']}"
        )
        raise UsageError(
            f"{run.folder} is finished ({state['epoch']} epochs, {state['step']} steps); "
            f"to train it longer: dltrain resume {run.folder} {more}"
        )
