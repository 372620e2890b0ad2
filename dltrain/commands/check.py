"""`dltrain check [--data] [overrides]`: every problem of a configuration, and what a step costs.

Costs are measured on a fake batch. With --data the data set is read first, as training would read
it, and its content is reported.
"""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

from torch import nn

from dltrain.config.check import raise_all
from dltrain.config.checking.combinations import unread
from dltrain.config.compose import Composed, compose
from dltrain.engine import Engine, Stage
from dltrain.errors import UsageError
from dltrain.experiment.batch_norm import require_batches_for_norm
from dltrain.experiment.data import batch_size
from dltrain.experiment.experiment import UNLIMITED_EPOCHS, Experiment
from dltrain.files import writing
from dltrain.options import Options
from dltrain.report.batches import picture
from dltrain.report.costs import (
    auxiliary_parameters,
    enlarge,
    inputs_of,
    layer_rows,
    prediction_flops,
    state_bytes,
    step_costs,
)
from dltrain.report.data import report_data, report_spec_files, require_files
from dltrain.report.pictures import image_grid
from dltrain.report.text import chart, counted_noun, duration, number, size, table
from dltrain.types import AveragesViews, Data, SpecFromFiles
from dltrain.weights.freezing import trainable_count

log = logging.getLogger("dltrain")
PLOT_COLUMNS = 60
LAYER_TITLES = ("layer", "type", "output shape", "parameters")


def check(options: Options) -> None:
    """Report every problem at once; without one, print what a training step costs."""
    composed = compose(options.overrides)
    raise_all(composed)
    data = configured_data(composed)
    content = report_content(data, composed, options)
    if content:
        options.outcome["data"] = content
    is_read = isinstance(data, SpecFromFiles) and data.spec_is_read
    description = None
    if is_read:
        description = data.description()
    experiment = Experiment.on_fake_data(composed.config, description)
    require_batches_for_norm(experiment)
    figures = report_costs(experiment, data)
    if options.plot:
        log.info(learning_rate_plot(experiment, figures["steps_per_epoch"]))
    for line in unread(composed):
        log.warning(line)
    written = "nothing"
    if options.images is not None:
        draw_batch(data, Path(options.images))
        options.outcome["images"] = written = options.images
    hint = ", the data was not read (--data reads it)"
    if options.images or options.data or is_read:
        hint = ""
    log.info(f"\nno problems; {written} was written{hint}")
    options.outcome.update(figures)


def configured_data(composed: Composed) -> Data:
    """Return the data set that training would read; no file of it is opened yet.

    Initial weights have to fit the task, so it is built if there are any.
    """
    experiment = Experiment.to_train(composed.config)
    if experiment.initial_weights is not None:
        experiment.build()
    return experiment.data


def report_content(data: Data, composed: Composed, options: Options) -> dict[str, Any]:
    """Print what is in the data, with --data or if it had to be read; return it for --json.

    Raises InputError if a file is absent.
    """
    if options.data:
        return report_data(data, composed.config["dataset"])
    require_files(data)
    return report_spec_files(data)


def report_costs(experiment: Experiment, data: Data) -> dict[str, Any]:
    """Print layers, parameters, FLOPs, memory and time of a training step; return the figures.

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
    log.info(table([LAYER_TITLES, *layers], right=frozenset({3})))
    rows = figure_lines(figures)
    if earlier:
        rows.append((f"before {stage.name}", stage_names(earlier)))
    log.info("\n" + table(rows))
    return figures


def figure_lines(figures: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the lines of the table of costs."""
    rows = [("parameters", f"{figures['parameters']:,}")]
    heads = figures["auxiliary_parameters"]
    if heads:
        rows.append(("and of auxiliary heads", f"{heads:,}, which only training has"))
    activations = size(figures["activation_bytes_per_batch"])
    milliseconds = figures["step_seconds"] * 1e3
    loss = number(figures["initial_loss"])
    epoch = duration(figures["epoch_seconds"])
    return [
        *rows,
        ("FLOPs per sample, forward", f"{number(figures['forward_flops_per_sample'] / 1e6)} M"),
        ("weights, gradients, optimizer", size(figures["state_bytes"])),
        ("activations per batch", f"{activations} at batch {figures['measured_batch_size']}"),
        ("data set in memory", size(figures["dataset_bytes"])),
        ("time per step", f"{milliseconds:.1f} ms, loss {loss} before training"),
        ("time per epoch, about", f"{epoch} ({figures['steps_per_epoch']} steps)"),
    ]


def stage_names(stages: list[Stage]) -> str:
    """Return the names of stages with their epochs."""
    return ", ".join(f"{one.name} ({counted_noun(one.epochs, 'epoch')})" for one in stages)


def draw_batch(data: Data, path: Path) -> None:
    """Write the first training batch as a picture, as the network gets it.

    Raises UsageError for data without images, and if the file cannot be written.
    """
    from PIL import Image

    if not data.spec.is_image or data.spec.actions:
        raise UsageError(f"--images {path}: this data has no images to draw")
    image = picture(next(data.train.epoch(0)), data.spec)
    pixels = Image.fromarray(image_grid(image))
    if path.suffix.lower() not in Image.registered_extensions():
        raise UsageError(
            f"--images {path}: cannot be written: images end in .png, .jpg and the like"
        )
    with writing(f"--images {path}"):
        pixels.save(path)


def learning_rate_plot(experiment: Experiment, steps_per_epoch: int) -> str:
    """Return the learning rate over a whole run as a diagram of text."""
    trainer = experiment.trainer
    if trainer.epochs is None and trainer.steps is None:
        return (
            "\nno plot of the learning rate: a time limit ends this run, "
            "so its number of updates is unknown"
        )
    total_steps = (trainer.epochs or UNLIMITED_EPOCHS) * steps_per_epoch
    optim = experiment.optim_factory(nn.Linear(1, 1), total_steps)
    assert optim.schedule
    last = optim.total_updates - 1
    updates = [round(i * last / (PLOT_COLUMNS - 1)) for i in range(PLOT_COLUMNS)]
    rates = [optim.base_lrs[0] * optim.schedule.factor(update) for update in updates]
    return f"\nlearning rate\n{chart(rates, f'{optim.total_updates:,} updates')}"
