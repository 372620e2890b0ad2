"""One batch, again and again: what `debug=overfit` trains on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from dltrain.types import Data, Sample, Spec

STEPS = 50  # an epoch


class OneBatch:
    """An epoch of `times` batches, always the same one."""

    def __init__(self, batch: Any, size: int, times: int) -> None:
        self.batch, self.times = batch, times
        self.batch_size, self.samples = size, size * times

    def __len__(self) -> int:
        return self.times

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        yield from itertools.repeat(self.batch, self.times - start)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Repeated:
    """`data` with its first training batch as the training and the test set, and nothing to validate on."""

    def __init__(self, data: Data) -> None:
        self.data = data

    @property
    def spec(self) -> Spec:
        return self.data.spec

    @cached_property
    def train(self) -> OneBatch:
        split = self.data.train
        return OneBatch(next(split.epoch(0)), min(split.batch_size, split.samples), STEPS)

    @cached_property
    def val(self) -> NoBatches:
        return NoBatches()

    @cached_property
    def test(self) -> OneBatch:
        return OneBatch(self.train.batch, self.train.batch_size, 1)

    @property
    def class_counts(self) -> tuple[int, ...]:
        return self.data.class_counts

    def fake(self) -> Data:
        return Repeated(self.data.fake())

    def to(self, device: torch.device) -> None:
        self.data.to(device)

    def size_in_bytes(self) -> int:
        return self.data.size_in_bytes()

    def fingerprint(self) -> str:
        return self.data.fingerprint()

    def description(self) -> dict[str, Any]:
        return self.data.description()

    def restore(self, description: dict[str, Any]) -> None:
        self.data.restore(description)

    def encode(self, paths: Sequence[Path]) -> Iterator[Sample]:
        return self.data.encode(paths)


class NoBatches:
    """An empty split."""

    batch_size, samples = 1, 0

    def __len__(self) -> int:
        return 0

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        return iter(())

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...
