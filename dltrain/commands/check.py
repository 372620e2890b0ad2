"""`dltrain check [--data] [overrides]`: every problem of a configuration, and what a step costs.

Costs are measured on a fake batch. With --data the data set is read first, as training would read
it, and its content is reported.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from torch import nn

from dltrain.config.check import raise_all
from dltrain.config.checking.combinations import unread
from dltrain.config.compose import Composed, compose
from dltrain.engine import Stage
from dltrain.errors import UsageError
from dltrain.experiment.batch_norm import require_batches_for_norm
from dltrain.experiment.costs import ExperimentCosts, configured_data, measure_costs
from dltrain.experiment.experiment import UNLIMITED_EPOCHS, Experiment
from dltrain.experiment.tuned import with_known_choice
from dltrain.files import writing
from dltrain.options import Options
from dltrain.report.batches import picture
from dltrain.report.data import report_data, report_spec_files, require_files
from dltrain.report.pictures import image_grid
from dltrain.report.text import chart, counted_noun, duration, number, size, table
from dltrain.runs.identity import FOLD_KEY
from dltrain.sweeps.folds import FOLDS, wants_all_folds
from dltrain.types import Data, KeepsIndex, SpecFromFiles

log = logging.getLogger("dltrain")
NOTHING = "nothing"
PLOT_COLUMNS = 60
LAYER_TITLES = ("layer", "type", "output shape", "parameters")


def check(options: Options) -> None:
    """Report every problem at once; without one, print what a training step costs."""
    composed = compose(options.overrides)
    if wants_all_folds(composed.config):
        composed = compose([*options.overrides, f"{FOLD_KEY}=0"])
        folds = composed.config["dataset"][FOLDS]
        log.info(f"dataset.folds={folds} trains {folds} runs; this is the check of {FOLD_KEY}=0")
    raise_all(composed)
    data = configured_data(composed)
    content = report_content(data, composed, options)
    if content:
        options.outcome["data"] = content
    is_read = isinstance(data, SpecFromFiles) and data.spec_is_read
    description = None
    if is_read:
        description = data.description()
    composed = with_known_choice(composed, data)
    experiment = Experiment.on_fake_data(composed.config, description)
    require_batches_for_norm(experiment)
    costs = measure_costs(experiment, data)
    figures = costs.figures
    report_costs(costs)
    if options.plot:
        log.info(learning_rate_plot(experiment, figures["steps_per_epoch"]))
    for line in unread(composed):
        log.warning(line)
    written = written_index(data)
    if options.images is not None:
        draw_batch(data, Path(options.images))
        options.outcome["images"] = options.images
        written = options.images
    hint = ", the data was not read (--data reads it)"
    if options.images or options.data or is_read or written != NOTHING:
        hint = ""
    log.info(f"\nno problems; {written} was written{hint}")
    options.outcome.update(figures)


def written_index(data: Data) -> str:
    """Return what was written to know the data: an index of its files, or nothing."""
    if isinstance(data, KeepsIndex) and data.kept_index:
        return f"nothing but an index of the data, {data.kept_index},"
    return NOTHING


def report_content(data: Data, composed: Composed, options: Options) -> dict[str, Any]:
    """Print what is in the data, with --data or if it had to be read; return it for --json.

    Raises InputError if a file is absent.
    """
    if options.data:
        return report_data(data, composed.config["dataset"])
    require_files(data)
    return report_spec_files(data)


def report_costs(costs: ExperimentCosts) -> None:
    """Print layers, parameters, FLOPs, memory and time of a training step."""
    log.info(table([LAYER_TITLES, *costs.layers], right=frozenset({3})))
    rows = figure_lines(costs.figures)
    if costs.earlier:
        rows.append((f"before {costs.stage}", stage_names(costs.earlier)))
    log.info("\n" + table(rows))


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
    evaluation = []
    if "evaluation_state_bytes" in figures:
        states = size(figures["evaluation_state_bytes"])
        outputs = size(figures["evaluation_output_bytes"])
        text = f"{states} for {counted_noun(figures['evaluation_samples'], 'sample')}"
        text += f", and {outputs} for the outputs of {figures['evaluation_batch_size']}"
        evaluation = [("states of an evaluation", text)]
    return [
        *rows,
        ("FLOPs per sample, forward", f"{number(figures['forward_flops_per_sample'] / 1e6)} M"),
        ("weights, gradients, optimizer", size(figures["state_bytes"])),
        ("activations per batch", f"{activations} at batch {figures['measured_batch_size']}"),
        *evaluation,
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
    if trainer.epochs is trainer.steps is trainer.stage_steps is None:
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
