"""Parts of tasks over trained networks: stages of one step, and averaged weights that stay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

from torch import Tensor

from dltrain.engine import Batches, Metrics, Stage
from dltrain.types.transfers import sent


class FirstTrainingBatch:
    """The first batch of the first epoch of some batches: an epoch of one step."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches
        self.samples = min(batches.batch_size, batches.samples)
        self.batch_size = self.samples

    def __len__(self) -> int:
        return 1

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        """Yield the batch, unless it is trained already."""
        yield from islice(self.batches.epoch(0), 1 - start)

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: every epoch is the same."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load nothing."""


def one_step_stage(earlier: Stage, name: str, step: Callable[[], Metrics]) -> Stage:
    """Return a stage like an `earlier` one that trains no network: its only step calls `step`.

    The step is not about a batch; it gets one because the engine counts batches.
    """
    return replace(
        earlier,
        name=name,
        epochs=1,
        batches=FirstTrainingBatch(earlier.batches),
        step=lambda batch: step(),
        optims=(),
        replayable=False,
        objective=None,
    )


def with_averages(stage: Stage) -> Iterator[Stage]:
    """Yield `stage`; after it, its networks have their averaged weights if they are averaged.

    It is for a network that no later stage trains, and that is used with its averages
    (regularization=[ema]). A resume in a later stage loads the weights from a checkpoint of that.
    """
    yield stage
    for optim in stage.optims:
        optim.use_averages()


def on_device_of(tensor: Tensor, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[Any]:
    """Yield batches (inputs, targets) on the device of a tensor."""
    for inputs, targets in batches:
        yield sent(inputs, tensor.device), sent(targets, tensor.device)
