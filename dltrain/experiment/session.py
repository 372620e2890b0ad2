"""A session: an experiment with the engine and the callbacks that train it in a run's folder.

`start` trains a new run, `execute` a session that is open: it fits, tests and writes the results.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dltrain.acceleration.compiling import Compilation
from dltrain.callbacks.checkpoint import Checkpoint
from dltrain.callbacks.evaluate_every import EvaluateEvery
from dltrain.callbacks.limits import Limits
from dltrain.callbacks.metrics_log import MetricsLog
from dltrain.callbacks.nonfinite import NonFinite
from dltrain.callbacks.signals import Signals
from dltrain.callbacks.tensorboard import TENSORBOARD
from dltrain.callbacks.timer import Timer
from dltrain.config.checking.combinations import unread
from dltrain.config.command_groups import of_run
from dltrain.config.compose import Composed
from dltrain.config.own_settings import own_settings
from dltrain.engine import Callback, Engine, Resume
from dltrain.errors import InputError, Interrupted
from dltrain.experiment.batch_norm import require_batches_for_norm, smallest_batch
from dltrain.experiment.experiment import Experiment
from dltrain.experiment.instantiate import instantiate
from dltrain.experiment.processes import led
from dltrain.experiment.tuned import experiment_to_train
from dltrain.files import finite, to_json, writing
from dltrain.options import Options
from dltrain.profiling.session import Profiling, profiling_of
from dltrain.report.costs import network_parameters
from dltrain.report.splits import empty_splits, sizes
from dltrain.report.summary import closing_table, rendered_grids
from dltrain.runs.checkpoint import Store
from dltrain.runs.folder import (
    CHECKPOINTS,
    FINISHED,
    METRICS,
    PARAMETERS,
    RESULTS,
    RunFolder,
)
from dltrain.runs.initial_files import initial_files, label
from dltrain.runs.log_file import buffered_records, logged_to
from dltrain.runs.results import Ending, claims, require_overfit, write_results
from dltrain.step_runner import MemoryGuard
from dltrain.types import Interval
from dltrain.weights.freezing import trainable_count

log = logging.getLogger("dltrain")


@dataclass
class Session:
    """An experiment with its run folder, engine and callbacks, ready to fit."""

    experiment: Experiment
    run: RunFolder
    engine: Engine
    log: MetricsLog
    timer: Timer
    checkpoint: Checkpoint
    limits: Limits
    signals: Signals
    profiling: Profiling


def start(
    composed: Composed,
    options: Options,
    folder: Path | None = None,
    swept: Sequence[str] = (),
    title: str = "",
    key: str = "",
    more: Sequence[Callback] = (),
) -> dict[str, Any]:
    """Train a new run of a checked configuration and return its results.

    Errors of the data or the device are raised before the run's folder is made. That is `folder`,
    or by default a folder with the time in its name. `swept` are the keys that differ between the
    runs of a sweep. `title` is the run's name in TensorBoard, and resume=auto finds it by its
    `key`. `more` are callbacks in addition to the usual ones.
    """
    composed = of_run(composed)
    config = composed.config
    with buffered_records() as records:
        for line in unread(composed):
            log.warning(line)
        tuned = experiment_to_train(composed)
        composed = tuned.composed
        experiment = tuned.experiment
        require_batches_for_norm(experiment)
        if not config["debug"]:
            for message in empty_splits(experiment.data, config["dataset"]):
                log.warning(message)
    manifest_entries: dict[str, Any] = {"settings": own_settings(composed, swept)}
    manifest_entries |= tuned.manifest
    if experiment.note:
        manifest_entries["note"] = experiment.note
    if title:
        manifest_entries[TENSORBOARD] = title
    if key:
        manifest_entries["key"] = key
    files = initial_files(experiment, composed, options, **manifest_entries)
    if folder is None:
        run = RunFolder.create(Path(config["paths"]["output"]), label(composed), files)
    else:
        with writing(folder):
            run = RunFolder.make(folder, files)
    with run.locked():
        session = open_session(experiment, run, options.command, composed.public, more)
        return execute(session, options.outcome, earlier=records)


def open_session(
    experiment: Experiment,
    run: RunFolder,
    command: str = "",
    settings: dict[str, Any] | None = None,
    more: Sequence[Callback] = (),
) -> Session:
    """Return the session that trains `experiment` and writes into `run`'s folder.

    `settings` is the part of the configuration that TensorBoard shows. `more` are callbacks that
    come after all others.

    The order of the callbacks matters. The log is first: it raises on a bad loss before anything is
    saved. The callback that evaluates within an epoch comes after all that count steps. It comes
    before the one that saves, because a resume continues at the next step. Signals are last, so
    that every other callback has seen the step; only profiling comes after them.
    """
    trainer = experiment.trainer
    metrics_log = MetricsLog(run, trainer.log_every)
    nonfinite = NonFinite(metrics_log, trainer.skip_nonfinite)
    timer = Timer(run)
    limits = Limits(timer, trainer.steps, trainer.max_seconds, trainer.stage_steps)
    checkpoint = checkpoint_callback(experiment, run)
    available = {
        "run": run,
        "log": metrics_log,
        "timer": timer,
        "settings": settings or experiment.config,
        "command": command,
        "data": experiment.data,
        "checkpoint": checkpoint,
    }
    optional = optional_callbacks(experiment, available)
    device = experiment.device
    profiling = profiling_of(run, experiment.config, device)
    evaluations = [EvaluateEvery(trainer.evaluate_every)] if trainer.evaluate_every else []
    signals = Signals(timer.subtract_stop)
    callbacks: list[Callback] = [
        metrics_log,
        nonfinite,
        timer,
        limits,
        *experiment.callbacks.values(),
        *optional.values(),
        *compilation_callbacks(experiment),
        *evaluations,
        checkpoint,
        signals,
        *more,
        *profiling.callbacks(),
    ]
    step_runner = MemoryGuard(
        trainer.on_oom == "halve",
        lambda: smallest_batch(experiment.task),
        device.step_runner(),
    )
    engine = Engine(
        callbacks,
        profiling.feed(device.feed()),
        device.autocast(),
        profiling.step_runner(step_runner),
    )
    profiling.time(engine)
    return Session(
        experiment, run, engine, metrics_log, timer, checkpoint, limits, signals, profiling
    )


def execute(
    session: Session,
    outcome: dict[str, Any],
    resume: Resume | None = None,
    earlier: Sequence[logging.LogRecord] = (),
) -> dict[str, Any]:
    """Fit, test with the best weights, and return the results.

    The results are written to results.json and added to `outcome` even if training raises.
    `earlier` are the records logged before the run had a folder: the first lines of train.log.
    """
    engine = session.engine
    debug = session.experiment.config["debug"]
    ending = Ending()
    with logged_to(session.run, earlier):
        log.info(opening_line(session))
        try:
            with (
                led(session.experiment, engine, resume) as others,
                saved_unless_trained(session, ending),
                ending.noted(),
                session.signals,
                others.explained(),
            ):
                engine.fit(session.experiment.task, resume)
                ending.trained = True
                if debug != "profile":
                    load_best_weights(session)
                    ending.scores = engine.test(session.experiment.data.test)
            ending.status = "stopped" if ended_early(session) else "completed"
        finally:
            try:
                session.checkpoint.finish()
            finally:
                results = finish(session, ending)
                outcome.update(results)
    session.checkpoint.require_complete()
    if debug == "overfit":
        require_overfit(session.run, results)
    return results


@contextmanager
def saved_unless_trained(session: Session, ending: Ending) -> Iterator[None]:
    """Save a checkpoint if a signal, or a batch that cannot be read, ends the training early.

    After training nothing is saved: the last checkpoint exists, and the task may already hold the
    best weights.
    """
    engine = session.engine
    try:
        yield
    except (Interrupted, InputError) as e:
        # the other processes are within the step of a batch that cannot be read
        is_alone = session.experiment.device.num_processes() == 1
        has_learned = isinstance(e, Interrupted) or (engine.step > 0 and is_alone)
        if has_learned and not ending.trained:
            session.checkpoint.save(engine)
        raise


def load_best_weights(session: Session) -> None:
    """Load weights and averages of the best checkpoint of the last stage, if there is one."""
    engine = session.engine
    checkpoint = session.checkpoint
    checkpoint.finish()
    if checkpoint.best.get("stage") != engine.stage.name:
        return
    best = checkpoint.best_state()
    if best is not None:
        engine.task.load_state_dict(best["task"])
        for optim, saved in zip(engine.stage.optims, best["optims"], strict=True):
            optim.load_state_dict(saved)


def ended_early(session: Session) -> bool:
    """Return True if a callback ended the last stage, or the time limit ended the run.

    A stage that has made all of its `trainer.stage_steps` did not end early.
    """
    limit = session.experiment.trainer.max_seconds or math.inf
    is_stopped = session.engine.stage_ended and not session.limits.stage_is_full
    return is_stopped or session.timer.seconds() >= limit


def finish(session: Session, ending: Ending) -> dict[str, Any]:
    """Write and return the results, let the callbacks finish, and print the closing table."""
    engine = session.engine
    results = results_of(session, ending)
    write_results(session.run, results)
    try:
        if ending.status in FINISHED:
            engine.emit("test_end")
    finally:
        engine.emit("close")
    rows = [row for callback in engine.callbacks for row in callback.summary_rows()]
    log.info(closing_table(session.experiment.task, results, RESULTS, rows))
    for text in rendered_grids(ending.scores):
        log.info(text)
    return results


def results_of(session: Session, ending: Ending) -> dict[str, Any]:
    """Return the content of results.json."""
    engine = session.engine
    test_metrics = {k: v for k, v in ending.scores.items() if isinstance(v, float)}
    metrics = {**session.log.latest, **test_metrics}
    is_finished = ending.status in FINISHED
    results: dict[str, Any] = {"status": ending.status}
    if ending.reason:
        results["reason"] = ending.reason
    if session.experiment.note:
        results["note"] = session.experiment.note
    return results | {
        "metrics": finite(metrics),
        "best": session.checkpoint.best,
        "epochs": engine.epoch,
        "steps": engine.step,
        "seconds": round(session.timer.seconds(), 3),
        "samples_per_second": round(session.timer.rate(engine), 1),
        "expect": claims(session.experiment.config, metrics) if is_finished else {},
        "run": str(session.run.folder),
        PARAMETERS: network_parameters(session.experiment.task),
        **session.profiling.results(),
        **results_of_callbacks(engine.callbacks),
    }


def results_of_callbacks(callbacks: Sequence[Callback]) -> dict[str, Any]:
    """Return the entries of results.json that callbacks add."""
    entries: dict[str, Any] = {}
    for callback in callbacks:
        entries |= callback.results()
    return entries


def opening_line(session: Session) -> str:
    """Return the first line of the log: the folder, and the size of the network and the data."""
    data = session.experiment.data
    device = session.experiment.device.summary()
    processes = device["processes"]
    several = f"{processes} processes on " if processes > 1 else ""
    return (
        f"{session.run.folder}: {trainable_count(session.experiment.task):,} parameters, "
        f"{sizes(data)}, "
        f"batch {data.train.batch_size}, {several}{device['device']} {device['precision']}"
    )


def optional_callbacks(experiment: Experiment, available: dict[str, Any]) -> dict[str, Callback]:
    """Return the callbacks that the configuration names, by key."""
    config = experiment.config
    callbacks: dict[str, Callback] = {}
    for name, node in config["callbacks"].items():
        if node is not None:
            callbacks[name] = instantiate(node, f"callbacks.{name}", available, config["plugins"])
    return callbacks


def compilation_callbacks(experiment: Experiment) -> list[Callback]:
    """Return the callback that keeps what is compiled in checkpoints, if networks are compiled."""
    if experiment.device.resolved_compile() == "off":
        return []
    return [Compilation(experiment.task)]


def checkpoint_callback(experiment: Experiment, run: RunFolder) -> Checkpoint:
    """Return the callback that saves checkpoints into `run`'s folder, set up by the trainer."""
    trainer = experiment.trainer
    every = None if trainer.save_every is None else Interval.parse(trainer.save_every)
    config = to_json(experiment.config, default=str)
    return Checkpoint(
        Store(run.folder / CHECKPOINTS, experiment.config["checkpoints"]["keep"]),
        every,
        trainer.on_save_error,
        about={"config_sha256": hashlib.sha256(config.encode()).hexdigest()},
        sync=lambda: run.sync(METRICS),
        keep_every=experiment.config["checkpoints"]["every"],
    )
