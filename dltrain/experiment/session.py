"""A session: an experiment with the engine and the callbacks that train it in a run's folder."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from dltrain.callbacks.checkpoint import Checkpoint
from dltrain.callbacks.evaluate_every import EvaluateEvery
from dltrain.callbacks.limits import Limits
from dltrain.callbacks.metrics_log import MetricsLog
from dltrain.callbacks.nonfinite import NonFinite
from dltrain.callbacks.profile import Profile
from dltrain.callbacks.signals import Signals
from dltrain.callbacks.timer import Timer
from dltrain.engine import Callback, Engine
from dltrain.experiment.batch_norm import smallest_batch
from dltrain.experiment.experiment import Experiment
from dltrain.experiment.instantiate import instantiate
from dltrain.files import to_json
from dltrain.runs.checkpoint import Store
from dltrain.runs.folder import CHECKPOINTS, METRICS, Run
from dltrain.step_runner import MemoryGuard
from dltrain.types import Interval


@dataclass
class Session:
    """An experiment with its run folder, engine and callbacks, ready to fit.

    `optional` are the callbacks that the configuration names, by key.
    """

    experiment: Experiment
    run: Run
    engine: Engine
    log: MetricsLog
    timer: Timer
    checkpoint: Checkpoint
    signals: Signals
    optional: dict[str, Callback]


def open_session(
    experiment: Experiment, run: Run, command: str = "", settings: dict[str, Any] | None = None
) -> Session:
    """Return the session that trains `experiment` and writes into `run`'s folder.

    `settings` are what TensorBoard shows of the configuration.

    The order of the callbacks matters. The log is first: it raises on a bad loss before anything is
    saved. The callback that evaluates within an epoch comes after all that count steps and before
    the one that saves, for a resume continues at the next step. Signals are last, so that every
    other callback has seen the step.
    """
    trainer = experiment.trainer
    log = MetricsLog(run, trainer.log_every)
    nonfinite = NonFinite(log, trainer.skip_nonfinite)
    timer = Timer(run)
    limits = Limits(timer, trainer.steps, trainer.max_seconds)
    checkpoint = checkpoint_callback(experiment, run)
    available = {
        "run": run,
        "log": log,
        "timer": timer,
        "settings": settings or experiment.config,
        "command": command,
        "data": experiment.data,
        "checkpoint": checkpoint,
    }
    optional = optional_callbacks(experiment, run, available)
    evaluations = [EvaluateEvery(trainer.evaluate_every)] if trainer.evaluate_every else []
    signals = Signals(timer.continued)
    callbacks: list[Callback] = [
        *(log, nonfinite, timer, limits),
        *experiment.callbacks.values(),
        *optional.values(),
        *evaluations,
        *(checkpoint, signals),
    ]
    device = experiment.device
    step_runner = MemoryGuard(trainer.on_oom == "halve", lambda: smallest_batch(experiment.task))
    engine = Engine(callbacks, device.mover(), device.autocast(), step_runner)
    return Session(experiment, run, engine, log, timer, checkpoint, signals, optional)


def optional_callbacks(
    experiment: Experiment, run: Run, available: dict[str, Any]
) -> dict[str, Callback]:
    """Return the callbacks that the configuration names, by key; `debug=profile` adds the profiler."""
    config = experiment.config
    callbacks: dict[str, Callback] = {}
    for name, node in config["callbacks"].items():
        if node is not None:
            callbacks[name] = instantiate(node, f"callbacks.{name}", available, config["plugins"])
    if config["debug"] == "profile":
        callbacks["profile"] = Profile(run)
    return callbacks


def checkpoint_callback(experiment: Experiment, run: Run) -> Checkpoint:
    """Return the callback that saves into `run`'s folder as often as the trainer says."""
    trainer = experiment.trainer
    every = None if trainer.save_every is None else Interval.parse(trainer.save_every)
    config = to_json(experiment.config, default=str)
    return Checkpoint(
        Store(run.folder / CHECKPOINTS),
        every,
        trainer.on_save_error,
        about={"config_sha256": hashlib.sha256(config.encode()).hexdigest()},
        sync=lambda: run.sync(METRICS),
    )
