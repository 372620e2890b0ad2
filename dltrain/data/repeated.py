"""One batch, again and again: what `debug=overfit` trains on."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import torch

from dltrain.types import Data, DataSplit, Spec


class OneBatch:
    """An epoch of a single batch, always the same."""

    def __init__(self, split: DataSplit) -> None:
        self.batch = next(split.epoch(0))
        self.batch_size = self.samples = min(split.batch_size, split.samples)

    def __len__(self) -> int:
        return 1

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        if not start:
            yield self.batch

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
        return OneBatch(self.data.train)

    @cached_property
    def val(self) -> NoBatches:
        return NoBatches()

    @property
    def test(self) -> OneBatch:
        return self.train

    def fake(self) -> Data:
        return Repeated(self.data.fake())

    def to(self, device: torch.device) -> None:
        self.data.to(device)

    def size_in_bytes(self) -> int:
        return self.data.size_in_bytes()

    def fingerprint(self) -> str:
        return self.data.fingerprint()


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
