"""The costs of an experiment's training step, measured on a fake batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from dltrain.config.compose import Composed
from dltrain.engine import Engine, Stage
from dltrain.experiment.data import batch_size
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
from dltrain.types import AveragesViews, Data
from dltrain.weights.freezing import trainable_count


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


def measure_costs(experiment: Experiment, data: Data) -> ExperimentCosts:
    """Measure layers, parameters, FLOPs, memory and time of a training step.

    Of several stages the last is measured, untrained: shapes and times are those after training.
    """
    task = experiment.task
    device = experiment.device
    engine = Engine((), device.mover(), device.autocast())
    *earlier, stage = task.stages()
    wanted_size = batch_size(experiment.config, data)
    batch = enlarge(engine.move(next(stage.batches.epoch(0))), wanted_size)
    if isinstance(task, AveragesViews):
        task.average_over(())  # measure one view
    flops = prediction_flops(task, batch, engine)
    costs = step_costs(stage, batch, engine)
    layers = layer_rows(task, stage, batch, engine)
    val_fraction = experiment.config["dataset"].get("val_fraction", 0)
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
        "earlier_stages": [one.name for one in earlier],
    }
    return ExperimentCosts(figures, layers, stage.name, earlier)
