"""`dltrain check [--data] [overrides]`: every problem at once; then a fake batch through the model,
and what it costs.

With --data the data set is read first, as training would read it, and what is in it is reported.
"""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dltrain.config.check import raise_all, unread
from dltrain.config.compose import Composed, compose
from dltrain.engine import Engine, Stage
from dltrain.errors import UsageError
from dltrain.experiment.batch_norm import require_batches_for_norm
from dltrain.experiment.data import batch_size
from dltrain.experiment.experiment import UNLIMITED_EPOCHS, Experiment
from dltrain.files import writing
from dltrain.options import Options
from dltrain.report.batches import picture
from dltrain.report.data import find_files, report_data, report_read
from dltrain.report.pictures import image_grid
from dltrain.report.text import chart, duration, number, size, table
from dltrain.types import AuxiliaryHeads, AveragesViews, Data, EnvironmentBatch, SpecFromFiles
from dltrain.weights.freezing import trainable_count

log = logging.getLogger("dltrain")
TIMED_STEPS = 8
TIMED_SECONDS = 2.0  # no further step after so long
COLUMNS = 60  # of a plot


def recurrent_flops(inputs: Any, of_inputs: Any, of_hidden: Any, *others: Any, **named: Any) -> int:
    """Of an LSTM's layer in oneDNN, which torch's counter does not know: inputs (T, B, F), weights (4 H, F) and (4 H, H)."""
    steps, samples, features = inputs
    return int(2 * steps * samples * of_inputs[0] * (features + of_hidden[1]))


COUNTED = {torch.ops.aten.mkldnn_rnn_layer: recurrent_flops}


def check(options: Options) -> None:
    composed = compose(options.overrides)
    raise_all(composed)
    report(composed, options)


def report(composed: Composed, options: Options) -> None:
    """Print the layers, parameters, FLOPs, memory and time of a training step on fake data; writes nothing."""
    configured = Experiment.to_train(composed.config)
    if configured.initial_weights is not None:
        configured.build()  # they have to fit the task
    real = configured.data  # its spec only: no file is opened
    if options.data:
        options.outcome["data"] = report_data(real, composed.config["dataset"])
    else:
        find_files(real)
        found = report_read(real)
        options.outcome |= {"data": found} if found else {}
    is_read = isinstance(real, SpecFromFiles) and real.spec_is_read
    experiment = Experiment.on_fake_data(composed.config, real.description() if is_read else None)
    require_batches_for_norm(experiment)
    device = experiment.device
    engine = Engine((), device.mover(), device.autocast())
    stages = list(
        experiment.task.stages()
    )  # untrained: a later one finds what it would find trained
    stage = stages[-1]
    batch = enlarge(engine.move(next(stage.batches.epoch(0))), batch_size(composed.config, real))
    if isinstance(experiment.task, AveragesViews):
        experiment.task.average_over(())  # what one view costs
    with (
        FlopCounterMode(display=False, custom_mapping=COUNTED) as forward,
        torch.no_grad(),
        engine.autocast,
    ):
        experiment.task.eval().predict(inputs_of(batch)[:1])
    experiment.task.train()
    memory, loss, seconds = step_costs(stage, batch, engine)
    layers = layer_rows(experiment, stage, batch, engine)
    held = round(real.spec.train_samples * (1 - composed.config["dataset"].get("val_fraction", 0)))
    wanted = min(held, batch_size(composed.config, real))
    steps = math.ceil(held / wanted)
    epoch = (
        steps * seconds * wanted / len(inputs_of(batch))
    )  # where the batch is more than what was measured
    heads = sum(map(trainable_count, auxiliary_heads(experiment.task)))
    parameters = trainable_count(experiment.task) - heads
    weights = sum(p.numel() * p.element_size() for p in experiment.task.parameters())
    state = sum(
        t.numel() * t.element_size()
        for t in tensors([o.optimizer.state_dict() for o in stage.optims])
    )
    flops = forward.get_total_flops()
    kept = 2 * weights + state
    measured = len(inputs_of(batch))
    rows = [
        ("parameters", f"{parameters:,}"),
        *([("and of auxiliary heads", f"{heads:,}, which only training has")] if heads else []),
        ("FLOPs a sample, forward", f"{number(flops / 1e6)} M"),
        ("weights, gradients, optimizer", size(kept)),
        ("activations a batch", f"{size(memory)} at batch {measured}"),
        ("data set in memory", size(real.size_in_bytes())),
        ("a step", f"{seconds * 1e3:.1f} ms, loss {number(loss)} before training"),
        ("an epoch, about", f"{duration(epoch)} ({steps} steps)"),
    ]
    figures = {
        "parameters": parameters,
        "auxiliary_parameters": heads,
        "forward_flops_per_sample": flops,
        "state_bytes": kept,  # weights, gradients and the optimizer's state
        "activation_bytes_per_batch": memory,
        "measured_batch_size": measured,
        "dataset_bytes": real.size_in_bytes(),
        "initial_loss": loss,
        "step_seconds": seconds,
        "epoch_seconds": epoch,
        "steps_per_epoch": steps,
        "earlier_stages": [earlier.name for earlier in stages[:-1]],
    }
    if len(stages) > 1:
        names = ", ".join(f"{s.name} ({s.epochs} epoch{'s' * (s.epochs > 1)})" for s in stages[:-1])
        rows.append((f"before {stage.name}", names))
    log.info(
        table([("layer", "type", "output shape", "parameters"), *layers], right=frozenset({3}))
    )
    log.info("\n" + table(rows))
    if options.plot:
        log.info(learning_rate_plot(experiment, steps))
    for line in unread(composed):
        log.warning(line)
    if options.images is not None:
        draw_batch(real, Path(options.images))
        options.outcome["images"] = options.images
    unread_data = (
        ""
        if options.images or options.data or is_read
        else ", the data was not read (--data reads it)"
    )
    log.info(f"\nno problems; {options.images or 'nothing'} was written{unread_data}")
    options.outcome.update(figures)


def auxiliary_heads(task: nn.Module) -> list[nn.Module]:
    """What only training has, of every network that has such a thing."""
    return [
        head
        for network in task.modules()
        if isinstance(network, AuxiliaryHeads)
        for head in network.auxiliary_heads()
    ]


def draw_batch(data: Data, path: Path) -> None:
    """Write the first training batch of the data, as the network gets it. UsageError where it is no images, or the file
    cannot be written."""
    from PIL import Image

    if not data.spec.is_image or data.spec.actions:
        raise UsageError(f"--images {path}: this data has no images to draw")
    shown = picture(next(data.train.epoch(0)), data.spec)
    drawn = Image.fromarray(image_grid(shown))
    if path.suffix.lower() not in Image.registered_extensions():
        raise UsageError(
            f"--images {path}: cannot be written: images end in .png, .jpg and the like"
        )
    with writing(f"--images {path}"):
        drawn.save(path)


def learning_rate_plot(experiment: Experiment, steps: int) -> str:
    """The learning rate over a run of so many steps an epoch, as lines of text."""
    trainer = experiment.trainer
    if trainer.epochs is None and trainer.steps is None:
        return "\nno plot of the learning rate: time ends this run, after as many updates as it comes to"
    total_steps = (trainer.epochs or UNLIMITED_EPOCHS) * steps
    optim = experiment.optim_factory(nn.Linear(1, 1), total_steps)
    assert optim.schedule
    updates = [round(i * (optim.total_updates - 1) / (COLUMNS - 1)) for i in range(COLUMNS)]
    rates = [optim.base_lrs[0] * optim.schedule.factor(update) for update in updates]
    return f"\nlearning rate\n{chart(rates, f'{optim.total_updates:,} updates')}"


def enlarge(batch: Any, count: int) -> Any:
    """A fake batch repeated to `count` samples, at most 4096: enough to measure."""
    if isinstance(batch, EnvironmentBatch):
        return batch
    count = min(count, 4096)
    if isinstance(batch, Tensor):
        return batch.repeat(-(-count // len(batch)), *[1] * (batch.ndim - 1))[:count]
    return type(batch)(enlarge(part, count) for part in batch)


def inputs_of(batch: Any) -> Tensor:
    if isinstance(batch, EnvironmentBatch):
        return batch.example()
    inputs: Tensor = batch[0] if isinstance(batch, tuple | list) else batch
    return inputs


def tensors(value: Any) -> list[Tensor]:
    """Every tensor in nested dicts and lists."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return tensors(list(value.values()))
    return [t for item in value for t in tensors(item)] if isinstance(value, list | tuple) else []


def layer_rows(
    experiment: Experiment, stage: Stage, batch: Any, engine: Engine
) -> list[tuple[str, str, str, str]]:
    """Name, type, output shape and parameters of every leaf module, in the order in which a step runs them."""
    rows: dict[str, tuple[str, str, str, str]] = {}

    def hook(name: str) -> Any:
        def note(module: nn.Module, args: Any, output: Any) -> None:
            shape = str(tuple(output.shape)) if isinstance(output, Tensor) else "-"
            rows.setdefault(
                name, (name, type(module).__name__, shape, f"{trainable_count(module):,}")
            )

        return note

    leaves = [
        (name, m) for name, m in experiment.task.named_modules() if name and not list(m.children())
    ]
    handles = [module.register_forward_hook(hook(name)) for name, module in leaves]
    with engine.autocast:
        stage.step(batch)
    for handle in handles:
        handle.remove()
    return list(rows.values())


def step_costs(stage: Stage, batch: Any, engine: Engine) -> tuple[int, float, float]:
    """Bytes that a step keeps for its backward pass, its first loss, and seconds a step (the median of several)."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t), engine.autocast:
        loss = float(stage.step(batch).get("loss", torch.tensor(math.nan)))
    times = []
    for _ in range(TIMED_STEPS):
        start = time.perf_counter()
        with engine.autocast:
            metrics = stage.step(batch)
        _ = [float(value) for value in metrics.values()]  # waits for the device
        times.append(time.perf_counter() - start)
        if sum(times) > TIMED_SECONDS:
            break
    return sum(kept.values()), loss, sorted(times)[len(times) // 2]
