"""Calls to a stage's step: what each counts in means over steps, and steps that do not fit in
memory.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from dltrain.engine import Callback, Mean, Metrics, Stage
from dltrain.errors import DltrainError, UsageError
from dltrain.optim import positive

log = logging.getLogger("dltrain")
SPARSE = "support sparse grad"  # in the words of every optimizer of torch that does not
DENSE_OPTIMIZER = (
    "the model's gradients are sparse, of the words of a batch alone, and this optimizer takes none: "
    "optimizer=sparse_adam or row_adagrad does (fasttext: or model.sparse=false)"
)


class Memory(Callback):
    """Calls a stage's step for the engine, and gives each of its metrics a weight: the samples of
    the batch.

    Where the memory does not suffice it raises a `DltrainError` that says what to try, or, with
    `halve`, repeats the step with the batch in twice as many parts, each with its share of the
    loss: the update is of the whole batch still. Batch norm sees the parts; `smallest_part` returns
    how many samples a part needs (2 for batch norm). How many parts a batch takes is kept in
    checkpoints.
    """

    name = "memory"
    draws = False

    def __init__(self, halve: bool, smallest_part: Callable[[], int] = lambda: 1) -> None:
        self.halve = halve
        self.smallest_part = smallest_part
        self.parts = 1

    def __call__(self, stage: Stage, batch: Any) -> Metrics:
        while True:
            updates = [optim.updates for optim in stage.optims]
            try:
                if self.parts == 1:
                    return weighted(stage.step(batch), length(batch))
                return in_parts(stage, batch, self.parts)
            except RuntimeError as e:
                if SPARSE in str(e):
                    raise UsageError(DENSE_OPTIMIZER) from e
                if not is_out_of_memory(e):
                    raise
                reason = str(e).splitlines()[0]
            size = length(batch)  # outside of the handler, so that what the step held is free
            begun = updates != [optim.updates for optim in stage.optims]
            parts = min(2 * self.parts, size // self.smallest_part())
            if not self.halve or begun or not stage.optims or parts <= self.parts:
                raise DltrainError(out_of_memory(reason, size, self.parts, begun))
            self.parts = parts
            for optim in stage.optims:
                if optim.pending:
                    log.warning(
                        "the gradient gathered so far in this update is lost with the failed step"
                    )
                optim.forget_gradient()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            log.warning(
                f"out of memory with {size} samples: each batch is trained in {self.parts} parts from now on"
            )

    def state_dict(self) -> dict[str, Any]:
        return {"parts": self.parts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.parts = state.get("parts", 1)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Of a GPU, or of the machine (torch has no class of its own for that)."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def weighted(metrics: Metrics, samples: int) -> Metrics:
    """Return `metrics` as means that count by `samples`, where a step gave no weight of its own."""
    return {
        name: value if isinstance(value, Mean) else Mean(value, samples)
        for name, value in metrics.items()
    }


def in_parts(stage: Stage, batch: Any, parts: int) -> Metrics:
    """Make one step of `stage` with its batch in `parts` parts; return the means of their metrics."""
    found: list[Metrics] = []
    size = length(batch)
    try:
        for part in split(batch, min(parts, size)):
            for optim in stage.optims:
                optim.share = length(part) / size
            found.append(weighted(stage.step(part), length(part)))
    finally:
        for optim in stage.optims:
            optim.share = 1.0
    return {
        name: together([metrics[name] for metrics in found if name in metrics]) for name in found[0]
    }


def together(means: Sequence[Tensor | Mean]) -> Mean:
    """Return the weighted mean of means, with the sum of their weights."""
    parts = [mean for mean in means if isinstance(mean, Mean)]
    weight = sum(part.weight for part in parts)
    total: Any = sum(part.value * part.weight for part in parts)
    return Mean(total / positive(weight), weight)


def split(batch: Any, parts: int) -> Iterator[Any]:
    """The samples of a batch (tensors (B, ...) in tuples, lists, dicts) in order, in `parts` batches."""
    if isinstance(batch, Tensor):
        yield from batch.tensor_split(parts)
    elif isinstance(batch, dict):
        columns = [list(split(value, parts)) for value in batch.values()]
        yield from (dict(zip(batch, row, strict=True)) for row in zip(*columns, strict=True))
    elif isinstance(batch, tuple | list):
        columns = [list(split(value, parts)) for value in batch]
        yield from (type(batch)(row) for row in zip(*columns, strict=True))
    else:
        yield from [batch] * parts


def length(batch: Any) -> int:
    """Samples in a batch; 1 for what cannot be divided."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.ndim else 1
    if isinstance(batch, dict):
        return max(map(length, batch.values()), default=1)
    return max(map(length, batch), default=1) if isinstance(batch, tuple | list) else 1


def out_of_memory(reason: str, size: int, parts: int, begun: bool) -> str:
    """What went wrong and what to try."""
    in_halves = f", in {parts} parts" if parts > 1 else ""
    halve = (
        "one of its networks was updated already, so it cannot be made in halves; "
        if begun
        else "trainer.on_oom=halve divides it by itself; "
        if parts == 1
        else ""
    )
    smaller = max(1, size // 2)
    return (
        f"out of memory in a step with a batch of {size}{in_halves}: {reason}\n"
        f"{halve}dataset.batch_size={smaller} trainer.accumulate=2 makes the same updates with half the memory"
    )
