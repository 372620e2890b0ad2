"""The metrics and evaluations that the runs of a sweep will have, known before they start.

The task of one configuration is built for it, on fake data and on the CPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dltrain.config.command_groups import of_run
from dltrain.config.compose import Composed, compose
from dltrain.engine import Direction, Engine, Stage
from dltrain.experiment.experiment import UNLIMITED_EPOCHS, Experiment
from dltrain.types import SpecFromFiles


@dataclass(frozen=True)
class Outlook:
    """The metrics and evaluations that the runs of a sweep will report.

    Attributes:
        watch: The metric that the runs watch; "" for none.
        mode: The better direction of the watched metric.
        directions: The better direction of each metric of an evaluation; None for neither.
        training: The metrics of training steps.
        evaluations: The number of evaluations of a run; None if it is not known, or differs.
    """

    watch: str
    mode: Direction
    directions: Mapping[str, Direction | None]
    training: tuple[str, ...]
    evaluations: int | None


def outlook_of(configurations: Sequence[Composed], with_training: bool) -> Outlook:
    """Return what a run of the first configuration will report.

    The metrics of training steps are found `with_training` only, by a step on fake data.

    Raises:
        ConfigError: The parts of the configuration do not fit together.
        InputError: The data has to be read for its description, and cannot be.
    """
    config = of_run(configurations[0]).config
    on_cpu = {**config, "device": compose(["device=cpu"]).config["device"]}
    experiment = Experiment.on_fake_data(on_cpu, description_of(on_cpu))
    task = experiment.task
    stages = list(task.stages())
    watch = task.watch or (experiment.trainer.watch or "")
    return Outlook(
        watch=watch,
        mode=experiment.optim_factory.direction,
        directions=dict(task.directions()),
        training=training_metrics(experiment, stages[-1]) if with_training else (),
        evaluations=evaluations_of(stages, watch, configurations),
    )


def description_of(config: dict[str, Any]) -> dict[str, Any] | None:
    """Return the description of data that is known from its files only; None for other data."""
    if config["debug"] == "smoke":
        return None
    data = Experiment.to_train(config).configured_data
    if isinstance(data, SpecFromFiles) and data.spec_is_read:
        return data.description()
    return None


def training_metrics(experiment: Experiment, stage: Stage) -> tuple[str, ...]:
    """Return the names of the metrics of a training step."""
    device = experiment.device
    engine = Engine((), device.feed(), device.autocast())
    with engine.autocast:
        metrics = stage.step(engine.move(next(stage.batches.epoch(0))))
    return tuple(metrics)


def evaluations_of(
    stages: Sequence[Stage], watch: str, configurations: Sequence[Composed]
) -> int | None:
    """Return how often a run evaluates the watched metric; None if that is not known.

    It is not if something other than epochs limits a run, or configurations differ in it.
    """
    trainers = [composed.config["trainer"] for composed in configurations]
    trainer = trainers[0]
    if any(one != trainer for one in trainers):
        return None
    if any(trainer[key] is not None for key in ("steps", "stage_steps", "evaluate_every")):
        return None
    counted = [stage.epochs for stage in stages if stage.watch == watch and stage.held_out]
    if not counted or max(counted) >= UNLIMITED_EPOCHS:
        return None
    return sum(counted)
