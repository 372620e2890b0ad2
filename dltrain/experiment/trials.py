"""Networks that are trained for a few steps to measure device=fast, apart from the run."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from typing import Any

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from dltrain import rng
from dltrain.acceleration.candidates import Candidate
from dltrain.engine import Engine, Metrics
from dltrain.experiment.experiment import Experiment
from dltrain.models.text.attention import MultiHeadAttention

DROPPING = (nn.RNNBase, nn.MultiheadAttention, MultiHeadAttention)  # with a rate of their own
COMPARED_STEPS = 4  # whose losses are compared
Clock = Callable[[], float]


class TrialNetwork:
    """The task of an experiment, trained on a few batches of the first stage as the engine would.

    `batches` are those batches; without them they are read.
    """

    def __init__(
        self, experiment: Experiment, batches: list[Any] | None = None, clock: Clock | None = None
    ) -> None:
        device = experiment.device
        self.experiment = experiment
        self.clock = clock or time.perf_counter
        self.task = experiment.task
        self.task.train()
        self.stages = self.task.stages()
        self.stage = next(self.stages)
        self.engine = Engine((), device.feed(), device.autocast(), device.step_runner())
        if batches is None:
            batches = list(islice(self.stage.batches.epoch(0), COMPARED_STEPS))
        self.batches = batches
        self.moved = cycle([self.engine.move(batch) for batch in batches])

    def first_losses(self, threads: int) -> list[float]:
        """Return the losses of the first steps, without dropout.

        Random masks differ between memory formats and precisions, which says nothing about them.
        """
        self.use(threads)
        losses: list[float] = []
        with without_dropout(self.task):
            for _ in range(COMPARED_STEPS):
                losses += losses_in(self.step())
        return losses

    def seconds(self, steps: int, threads: int) -> float:
        """Train so many steps, and return how long they take."""
        self.use(threads)
        synchronize()
        start = self.clock()
        for _ in range(steps):
            self.step()
        synchronize()
        return self.clock() - start

    def use(self, threads: int) -> None:
        """Apply the settings of the process that the network is trained with."""
        self.experiment.device.set_up()
        if threads:
            torch.set_num_threads(threads)

    def step(self) -> Metrics:
        """Train one step."""
        with self.engine.autocast:
            return self.engine.step_runner.run(self.stage, next(self.moved))


class TrialBench:
    """Builds networks with the data, seed and settings of a run.

    `reference` is the run's experiment with the settings of device=auto; its data is read. All
    networks begin with the generators in `generators`, the state after building the run.
    """

    def __init__(self, reference: Experiment, clock: Clock | None = None) -> None:
        self.reference = reference
        self.clock = clock
        self.generators = rng.state_dict()
        self.batches: list[Any] | None = None

    def build(self, candidate: Candidate) -> TrialNetwork:
        """Return the network of a candidate; the first one is that of the reference."""
        if self.batches is None:
            rng.load_state_dict(self.generators)
            network = TrialNetwork(self.reference, clock=self.clock)
            self.batches = network.batches
            return network
        config = with_device(self.reference.config, candidate.settings())
        experiment = Experiment.with_data_of(self.reference, config).build()
        rng.load_state_dict(self.generators)
        return TrialNetwork(experiment, self.batches, self.clock)

    def release(self) -> None:
        """Free the memory of networks that are not referred to any more."""
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def with_device(config: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with other settings of the device."""
    return {**config, "device": {**config["device"], **settings}}


def synchronize() -> None:
    """Wait for the device."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    elif torch.backends.mps.is_available():
        torch.mps.synchronize()


def losses_in(metrics: Metrics) -> list[float]:
    """Return the losses among the metrics of a step; all metrics if no name says loss."""
    losses = [float(value) for name, value in metrics.items() if "loss" in name]
    return losses or [float(value) for value in metrics.values()]


@contextmanager
def without_dropout(task: nn.Module) -> Iterator[None]:
    """Train without dropout in the block."""
    layers: list[tuple[Any, str, float]] = []
    for module in task.modules():
        if isinstance(module, _DropoutNd):
            layers.append((module, "p", module.p))
        elif isinstance(module, DROPPING):
            layers.append((module, "dropout", module.dropout))
    for module, name, _ in layers:
        setattr(module, name, 0.0)
    try:
        yield
    finally:
        for module, name, p in layers:
            setattr(module, name, p)
