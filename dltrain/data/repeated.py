"""The same batch, repeated: what `debug=overfit` trains on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from dltrain.data.dataset import Dataset, Part
from dltrain.types import BatchSize, Data, NamesSamples, Sample, Spec

STEPS_PER_EPOCH = 50


class OneBatch:
    """An epoch of `times` batches that are all the same one."""

    def __init__(self, batch: Any, size: int, times: int) -> None:
        self.batch = batch
        self.times = times
        self.batch_size = size
        self.samples = size * times

    def __len__(self) -> int:
        return self.times

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        """Yield the batch, as often as is left of the epoch from `start` on."""
        yield from itertools.repeat(self.batch, self.times - start)

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: every epoch is the same."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load nothing."""


class NoBatches:
    """An empty split."""

    batch_size = 1
    samples = 0

    def __len__(self) -> int:
        return 0

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        """Yield nothing."""
        return iter(())

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: there is nothing to continue."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load nothing."""


RepeatedSplit: TypeAlias = OneBatch | NoBatches


@dataclass(frozen=True)
class FirstBatch:
    """The first training batch of some data, and how many samples it has."""

    data: Data
    batch: Any
    size: int

    def size_in_bytes(self) -> int:
        """Return how much memory the data occupies from which the batch was taken."""
        return self.data.size_in_bytes()

    def fingerprint(self) -> str:
        """Return the name of the data from which the batch was taken."""
        return self.data.fingerprint()


class Repeated(Dataset[FirstBatch, dict[str, Any], RepeatedSplit]):
    """`data` with its first training batch as training and test set, and no validation set."""

    def __init__(self, data: Data) -> None:
        super().__init__()
        self.data = data

    @property
    def spec(self) -> Spec:
        """The shape of the data."""
        return self.data.spec

    def read(self) -> FirstBatch:
        """Take the first training batch."""
        split = self.data.train
        batch = next(iter(split.epoch(0)))
        return FirstBatch(self.data, batch, min(split.batch_size, split.samples))

    def make_split(self, part: Part, batch_size: BatchSize, seed: int | None) -> RepeatedSplit:
        """Return the batch: once for testing, many times for training, not for validation."""
        if part == "val":
            return NoBatches()
        times = STEPS_PER_EPOCH if part == "train" else 1
        return OneBatch(self.stored.batch, self.stored.size, times)

    def row_names(self, part: Part) -> Callable[[int], str]:
        """Return the function that names a sample of the batch as the data names it."""
        if not isinstance(self.data, NamesSamples):
            return super().row_names(part)
        names = list(itertools.islice(self.data.sample_names("train"), self.stored.size))
        return lambda row: names[row % len(names)]

    def count_classes(self) -> tuple[int, ...]:
        """Return the number of training samples of each class in the data."""
        return self.data.class_counts

    def expected_size_in_bytes(self) -> int:
        """Return how much memory the data occupies."""
        return self.data.size_in_bytes()

    def fake(self) -> Data:
        """Return random data of the same shape, with its first batch repeated."""
        return Repeated(self.data.fake())

    def description(self) -> dict[str, Any]:
        """Return what the data learned from its training samples."""
        return self.data.description()

    def parse(self, description: dict[str, Any]) -> dict[str, Any]:
        """Let the data load the description, and return it."""
        self.data.restore(description)
        return description

    def encode_file(self, path: Path) -> Iterator[Sample]:
        """Yield the inputs in a file as the data reads it."""
        return self.data.encode([path])
