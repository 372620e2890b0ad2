"""Checks that batch norm gets enough values per channel to compute a variance."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from dltrain import rng
from dltrain.errors import ConfigError

if TYPE_CHECKING:
    from dltrain.experiment.experiment import Experiment

MIN_NORM_SAMPLES = 2  # of a variance


def batch_norms(task: nn.Module) -> list[nn.Module]:
    """Return the batch-norm layers, which compute statistics of a batch in training."""
    norms = (nn.modules.batchnorm._BatchNorm,)
    return [module for module in task.modules() if isinstance(module, norms)]


def smallest_batch(task: nn.Module) -> int:
    """Return how many samples a training batch needs: batch norm needs two for a variance."""
    if any(norm.training for norm in batch_norms(task)):
        return MIN_NORM_SAMPLES
    return 1


def require_batches_for_norm(experiment: Experiment) -> None:
    """Raise ConfigError if batch norm would have to compute a variance from one value per channel.

    A remaining single sample is joined to the batch before it (`data/split.py`), so only a batch
    size of 1 or a training set of one sample can cause it, or several processes that divide a small
    batch. A forward pass decides: one image has many values per channel.
    """
    task, train = experiment.task, experiment.data.train
    require_shares_for_norm(experiment)
    size = min(train.batch_size, train.samples)
    if size != 1 or not batch_norms(task):
        return
    if can_normalize(experiment, next(train.epoch(0))):
        return
    why = "batch norm needs at least two samples a batch"
    if train.samples == 1:
        why = f"there is 1 training sample, and {why}"
    advice = "use more, or a model without batch norm"
    raise ConfigError([(f"dataset.batch_size={size}", f"{why}: {advice}")])


def require_shares_for_norm(experiment: Experiment) -> None:
    """Raise ConfigError if a process would have one row of a batch, and that is too few."""
    device = experiment.device
    processes = device.num_processes()
    norms_alone = batch_norms(experiment.task) and not device.sync_batch_norm
    if processes == 1 or not norms_alone:
        return
    train = experiment.data.train
    last_batch = train.samples % train.batch_size or train.batch_size
    smallest_share = min(train.batch_size, last_batch) // processes
    if smallest_share >= MIN_NORM_SAMPLES:
        return
    batch = next(train.epoch(0))
    if can_normalize(experiment, tuple(values[:1] for values in batch)):
        return
    why = (
        f"a batch of {last_batch} divided among {processes} processes leaves one with a single "
        "sample, and batch norm needs two; set device.sync_batch_norm=true, or another "
        "dataset.batch_size"
    )
    raise ConfigError([(f"device.processes={processes}", why)])


def can_normalize(experiment: Experiment, batch: Any) -> bool:
    """Return whether batch norm can compute its statistics from `batch`; the task stays unchanged.

    A prediction shows it. Layers that a prediction does not reach, such as those of a generator,
    cannot if they see one value per channel.
    """
    task = experiment.task
    device = experiment.device
    inputs = device.feed().move(batch)
    if isinstance(inputs, tuple | list):
        inputs = inputs[0]
    try:
        with training_norms(task) as reached, torch.no_grad(), device.autocast(), rng.preserved():
            task.predict(inputs)
    except ValueError as e:
        if "more than 1 value per channel" not in str(e):
            raise
        return False
    unreached = [norm for norm in batch_norms(task) if norm not in reached]
    return not any(isinstance(norm, nn.BatchNorm1d) for norm in unreached)


@contextmanager
def training_norms(task: nn.Module) -> Iterator[set[nn.Module]]:
    """Put only the batch norms of a task into training; yield those that are reached.

    Afterwards the task is in training, with the state that it had.
    """
    state = {
        name: value.clone() for name, value in task.state_dict().items() if torch.is_tensor(value)
    }
    reached: set[nn.Module] = set()
    hooks = []
    task.eval()
    for norm in batch_norms(task):
        norm.train()
        hooks.append(norm.register_forward_pre_hook(lambda module, _: reached.add(module)))
    try:
        yield reached
    finally:
        for hook in hooks:
            hook.remove()
        task.load_state_dict(state, strict=False)
        task.train()
