"""Runs steps: weighs their metrics by samples, and divides batches that do not fit in memory."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dltrain.engine import Mean, Metrics, PlainStepRunner, Stage, StepRunner
from dltrain.errors import DltrainError, UsageError
from dltrain.optim import positive
from dltrain.types.own_code import MisfitError, described_function

log = logging.getLogger("dltrain")
SPARSE = "support sparse grad"  # in the message of every torch optimizer that does not
DENSE_OPTIMIZER = (
    "the model's gradients are sparse (only the words of a batch have one), and this optimizer "
    "takes none: optimizer=sparse_adam or row_adagrad does (fasttext: or model.sparse=false)"
)


class MemoryGuard:
    """Runs a stage's step, and weighs each of its metrics by the samples of the batch.

    A step that runs out of memory raises a `DltrainError` that says what to try. With `halve` it is
    repeated with the batch in twice as many parts instead, each with its fraction of the loss: the
    update is still that of the whole batch. Batch norm sees the parts; `smallest_part` returns how
    many samples a part needs (2 for batch norm). The number of `parts` is kept in checkpoints.
    Steps with the whole batch are run by `runner`.
    """

    def __init__(
        self,
        halve: bool,
        smallest_part: Callable[[], int] = lambda: 1,
        runner: StepRunner | None = None,
    ) -> None:
        self.halve = halve
        self.smallest_part = smallest_part
        self.runner = runner or PlainStepRunner()
        self.parts = 1

    def run(self, stage: Stage, batch: Any) -> Metrics:
        """Return the metrics of one step of `stage` on `batch`, each a `Mean`."""
        while True:
            updates = [optim.updates for optim in stage.optims]
            try:
                if self.parts == 1:
                    metrics = self.runner.run(stage, batch)
                    return weighted(metrics, stage, length(batch))
                return run_in_parts(stage, batch, self.parts)
            except RuntimeError as e:
                if SPARSE in str(e):
                    raise UsageError(DENSE_OPTIMIZER) from e
                if not is_out_of_memory(e):
                    raise
                reason = str(e).splitlines()[0]
            # after the handler, so that the memory of the failed step is free
            updated = updates != [optim.updates for optim in stage.optims]
            self._divide_further(stage, length(batch), updated, reason)

    def _divide_further(self, stage: Stage, size: int, updated: bool, reason: str) -> None:
        """Double the number of parts, and drop the gradient of the failed step.

        Raises DltrainError if batches of `size` samples cannot be divided further, or if the failed
        step had `updated` a network already.
        """
        parts = min(2 * self.parts, size // self.smallest_part())
        divisible = self.halve and stage.optims and parts > self.parts
        if not divisible or updated:
            raise DltrainError(out_of_memory_message(reason, size, self.parts, updated))
        self.parts = parts
        for optim in stage.optims:
            if optim.pending:
                log.warning("the gradient accumulated for this update is lost with the failed step")
            optim.forget_gradient()
        self.runner.release()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        log.warning(
            f"out of memory with {size} samples: "
            f"each batch is trained in {self.parts} parts from now on"
        )

    def release(self) -> None:
        """Free what `runner` keeps for the steps of a stage."""
        self.runner.release()

    def state_dict(self) -> dict[str, Any]:
        """Return the number of parts."""
        return {"parts": self.parts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Divide batches as `state` says."""
        self.parts = state.get("parts", 1)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether a GPU or the machine is out of memory; torch has a class for GPUs only."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def weighted(metrics: Metrics, stage: Stage, samples: int) -> Metrics:
    """Return the metrics of a step as means over `samples`, where the step gave no weight.

    Raises MisfitError unless they are tensors or means by name.
    """
    if not isinstance(metrics, Mapping):
        raise wrong_metrics(stage, metrics, "a dictionary of metrics by name")
    means: dict[str, Mean] = {}
    for name, value in metrics.items():
        if isinstance(value, Mean):
            means[name] = value
        elif isinstance(value, Tensor):
            means[name] = Mean(value, samples)
        else:
            raise wrong_metrics(stage, value, "a tensor () for each metric, such as loss.detach(),")
    return means


def wrong_metrics(stage: Stage, value: Any, needed: str) -> MisfitError:
    """Return the error of a step that returned a value that is not what is needed."""
    name = described_function(stage.step)
    kind = type(value).__name__
    return MisfitError(f"{name} returns a value of type {kind}; {needed} is needed", stage.step)


def run_in_parts(stage: Stage, batch: Any, parts: int) -> Metrics:
    """Make one step of `stage` with its batch in `parts` parts; return the mean metrics."""
    size = length(batch)
    of_parts: list[Metrics] = []
    try:
        for part in split(batch, min(parts, size)):
            for optim in stage.optims:
                optim.batch_fraction = length(part) / size
            of_parts.append(weighted(stage.step(part), stage, length(part)))
    finally:
        for optim in stage.optims:
            optim.batch_fraction = 1.0
    return {
        name: combined([metrics[name] for metrics in of_parts if name in metrics])
        for name in of_parts[0]
    }


def combined(values: Sequence[Tensor | Mean]) -> Mean:
    """Return the weighted mean of means, with the sum of their weights."""
    means = [value for value in values if isinstance(value, Mean)]
    weight = sum(mean.weight for mean in means)
    total: Any = sum(mean.value * mean.weight for mean in means)
    return Mean(total / positive(weight), weight)


def split(batch: Any, parts: int) -> Iterator[Any]:
    """Yield a batch (tensors (B, ...) in tuples, lists, dicts) in `parts` parts."""
    if isinstance(batch, Tensor):
        yield from batch.tensor_split(parts)
    elif isinstance(batch, dict):
        for values in split_together(batch.values(), parts):
            yield dict(zip(batch, values, strict=True))
    elif isinstance(batch, tuple | list):
        for values in split_together(batch, parts):
            yield type(batch)(values)
    else:
        yield from [batch] * parts


def split_together(values: Iterable[Any], parts: int) -> Iterator[tuple[Any, ...]]:
    """Yield the first part of each of the values, then the second, and so on."""
    return zip(*(split(value, parts) for value in values), strict=True)


def length(batch: Any) -> int:
    """Return the number of samples in a batch; 1 for what cannot be divided."""
    if isinstance(batch, dict):
        batch = tuple(batch.values())
    if isinstance(batch, (tuple, list)) and batch:
        return max(map(length, batch))
    if isinstance(batch, Tensor) and batch.ndim:
        return batch.shape[0]  # len() takes four times as long
    return 1


def out_of_memory_message(reason: str, size: int, parts: int, updated: bool) -> str:
    """Return what went wrong and what to try."""
    divided = f", in {parts} parts" if parts > 1 else ""
    advice = ""
    if updated:
        advice = "one of its networks was updated already, so it cannot be made in halves; "
    elif parts == 1:
        advice = "trainer.on_oom=halve divides it by itself; "
    return (
        f"out of memory in a step with a batch of {size}{divided}: {reason}\n"
        f"{advice}dataset.batch_size={max(1, size // 2)} trainer.accumulate=2 "
        "makes the same updates with half the memory"
    )
