"""Tensors at fixed addresses: the inputs and the metrics of a step that is recorded once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dltrain.engine import Mean, Metrics


def signature(batch: Any) -> tuple[Any, ...]:
    """Return what a recorded step depends on: types, shapes and all values except tensors."""
    if isinstance(batch, Tensor):
        return tuple(batch.shape), batch.dtype, batch.device
    if isinstance(batch, dict):
        return dict, tuple((key, signature(value)) for key, value in batch.items())
    if isinstance(batch, tuple | list):
        return type(batch), tuple(map(signature, batch))
    return type(batch), repr(batch)


def tensors_of(batch: Any) -> Iterator[Tensor]:
    """Yield the tensors of a batch (tensors in tuples, lists, dicts)."""
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, dict):
        for value in batch.values():
            yield from tensors_of(value)
    elif isinstance(batch, tuple | list):
        for value in batch:
            yield from tensors_of(value)


def cloned(batch: Any) -> Any:
    """Return a copy of a batch (tensors in tuples, lists, dicts)."""
    if isinstance(batch, Tensor):
        return batch.clone()
    if isinstance(batch, dict):
        return {key: cloned(value) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        return type(batch)(map(cloned, batch))
    return batch


class StaticBatch:
    """A batch whose tensors stay where they are, while their values are replaced."""

    def __init__(self, example: Any) -> None:
        self.batch = cloned(example)
        self.tensors = list(tensors_of(self.batch))

    def fill(self, batch: Any) -> None:
        """Copy the values of a batch with the signature of the example."""
        for to, source in zip(self.tensors, tensors_of(batch), strict=True):
            to.copy_(source, non_blocking=True)


class StaticMetrics:
    """The metrics of a recorded step, in one tensor of each data type.

    Each repetition of the step overwrites them, and the log reads them many steps later. `read`
    copies them, in one operation for all metrics of a type.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        scalars: dict[torch.dtype, list[Tensor]] = defaultdict(list)
        self.places: dict[int, tuple[torch.dtype, int]] = {}  # by the id of a tensor
        for scalar in metric_tensors(metrics):
            column = scalars[scalar.dtype]
            self.places[id(scalar)] = scalar.dtype, len(column)
            column.append(scalar.detach().reshape(()))
        self.packed = {dtype: torch.stack(column) for dtype, column in scalars.items()}

    def read(self) -> dict[str, Tensor | Mean]:
        """Return a copy of the metrics of the last repetition."""
        copies = {dtype: packed.clone().unbind() for dtype, packed in self.packed.items()}

        def copy_of(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            dtype, place = self.places[id(value)]
            return copies[dtype][place]

        values: dict[str, Tensor | Mean] = {}
        for name, value in self.metrics.items():
            if isinstance(value, Mean):
                values[name] = Mean(copy_of(value.value), copy_of(value.weight))
            else:
                values[name] = copy_of(value)
        return values


def metric_tensors(metrics: Metrics) -> Iterator[Tensor]:
    """Yield the scalar tensors among the values and weights of metrics."""
    for value in metrics.values():
        if isinstance(value, Tensor):
            yield value
            continue
        yield value.value
        if isinstance(value.weight, Tensor):
            yield value.weight
