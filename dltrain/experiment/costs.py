"""The costs of an experiment's training step, measured on a fake batch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dltrain.callbacks.checkpoint import require_metric
from dltrain.config.compose import Composed
from dltrain.engine import Engine, Stage, Task
from dltrain.experiment.data import DEFAULT_BATCH_SIZE, batch_size
from dltrain.experiment.experiment import Experiment
from dltrain.report.costs import (
    LayerRow,
    auxiliary_parameters,
    enlarge,
    inputs_of,
    layer_rows,
    prediction_flops,
    state_bytes,
    step_costs,
)
from dltrain.runs.predict import batch_rows
from dltrain.types import AveragesViews, Data, KeepsStates, PredictionRows
from dltrain.types.own_code import MisfitError, described_class
from dltrain.weights.freezing import trainable_count

TRIED_SAMPLES = 2  # that are predicted


def require_stages(task: Task) -> list[Stage]:
    """Return the stages of a task; MisfitError if it yields something else."""
    stages: Any = task.stages()
    name = described_class(task)
    if not isinstance(stages, Iterator):
        kind = type(stages).__name__
        raise MisfitError(f"{name}: stages() must yield stages; it returns a {kind}", task)
    yielded = list(stages)
    for stage in yielded:
        if not isinstance(stage, Stage):
            kind = type(stage).__name__
            raise MisfitError(f"{name}: stages() yields a {kind}, not a Stage", task)
    return yielded


def try_evaluation(engine: Engine, inputs: Tensor) -> None:
    """Score the engine's held-out batches and predict some inputs (B, ...): user code may fail.

    Raises:
        MisfitError: The user's code does not return what is needed.
        UsageError: The watched metric is not among the scores.
    """
    if engine.stage.held_out is not None:
        scores = engine.score(engine.stage.held_out, "val")
        figures = [name for name, value in scores.items() if isinstance(value, float)]
        require_metric(engine.stage.watch, figures)
    engine.task.eval()
    try_prediction(engine.task, inputs[:TRIED_SAMPLES], engine.autocast)
    engine.task.train()


def try_prediction(task: Task, inputs: Tensor, autocast: AbstractContextManager[Any]) -> None:
    """Predict some inputs (B, ...) as `predict` does, if the task describes its predictions."""
    if isinstance(task, PredictionRows):
        batch_rows(task, inputs, autocast, [{} for _ in inputs])


def evaluation_costs(task: Task, settings: Mapping[str, Any], data: Data) -> dict[str, int]:
    """Return the memory of an evaluation of the larger held-out split, in bytes by name.

    `settings` are those of the data set. The result is {} for a task that does not know.
    """
    if not isinstance(task, KeepsStates):
        return {}
    fraction = validation_fraction(settings)
    samples = max(data.spec.test_samples, round(data.spec.train_samples * fraction))
    batch = min(samples, settings.get("eval_batch_size", DEFAULT_BATCH_SIZE))
    states, outputs = task.evaluation_bytes(samples, batch)
    return {
        "evaluation_samples": samples,
        "evaluation_state_bytes": states,
        "evaluation_batch_size": batch,
        "evaluation_output_bytes": outputs,
    }


@dataclass(frozen=True)
class ExperimentCosts:
    """The costs of a training step of the last stage: `figures` by name, and its layers.

    `stage` is the name of that stage, `earlier` are the stages before it.
    """

    figures: dict[str, Any]
    layers: list[LayerRow]
    stage: str
    earlier: list[Stage]


def configured_data(composed: Composed) -> Data:
    """Return the data set that training would read; no file of it is opened yet.

    Initial weights have to fit the task, so it is built if there are any.
    """
    experiment = Experiment.to_train(composed.config)
    if experiment.initial_weights is not None:
        experiment.build()
    return experiment.data


def validation_fraction(settings: Mapping[str, Any]) -> float:
    """Return the fraction of the training samples for validation, by the settings of a data set."""
    folds = settings.get("folds")
    if folds:
        return 1 / float(folds)
    return float(settings.get("val_fraction", 0))


def measure_costs(experiment: Experiment, data: Data) -> ExperimentCosts:
    """Measure layers, parameters, FLOPs, memory and time of a training step.

    Of several stages the last is measured, untrained: shapes and times are those after training.
    """
    task = experiment.task
    device = experiment.device
    engine = Engine((), device.feed(), device.autocast())
    *earlier, stage = require_stages(task)
    wanted_size = batch_size(experiment.config, data)
    batch = enlarge(engine.move(next(stage.batches.epoch(0))), wanted_size)
    if isinstance(task, AveragesViews):
        task.average_over(())  # measure one view
    flops = prediction_flops(task, batch, engine)
    costs = step_costs(stage, batch, engine)
    layers = layer_rows(task, stage, batch, engine)
    if experiment.plugins:
        engine.task = task
        engine.stage = stage
        try_evaluation(engine, inputs_of(batch))
    val_fraction = validation_fraction(experiment.config["dataset"])
    train_samples = round(data.spec.train_samples * (1 - val_fraction))
    step_samples = min(train_samples, wanted_size)
    steps = math.ceil(train_samples / step_samples)
    measured_size = len(inputs_of(batch))
    step_seconds = costs.seconds
    heads = auxiliary_parameters(task)
    figures = {
        "parameters": trainable_count(task) - heads,
        "auxiliary_parameters": heads,
        "forward_flops_per_sample": flops,
        "state_bytes": state_bytes(task, stage),
        "activation_bytes_per_batch": costs.activation_bytes,
        "measured_batch_size": measured_size,
        "dataset_bytes": data.size_in_bytes(),
        "initial_loss": costs.initial_loss,
        "step_seconds": step_seconds,
        "epoch_seconds": steps * step_seconds * step_samples / measured_size,
        "steps_per_epoch": steps,
        **evaluation_costs(task, experiment.config["dataset"], data),
        "earlier_stages": [one.name for one in earlier],
    }
    return ExperimentCosts(figures, layers, stage.name, earlier)
