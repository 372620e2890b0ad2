"""Random batches of any described shape, without a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from dltrain.data.dataset import PARTS, ContentT, Dataset, Part, SplitT
from dltrain.data.split import Split
from dltrain.rng import keyed
from dltrain.types import BatchSize, Sample, Spec

BATCHES = 4  # of each split
MAX_BATCH_SAMPLES = 16
MAX_CLASSES = 100  # that occur: each needs samples, and many samples may be large


def fake_samples(batch_size: int, num_classes: int) -> int:
    """Return the number of samples of a split: a few batches, and a few samples of each class."""
    return BATCHES * max(batch_size, min(num_classes, MAX_CLASSES))


def fake_batch_size(batch_size: BatchSize) -> int:
    """Return the number of samples in a fake batch."""
    if batch_size == "all":
        return MAX_BATCH_SAMPLES
    return min(batch_size, MAX_BATCH_SAMPLES)


@dataclass(frozen=True)
class FakeContent:
    """Random inputs (N, ...) and targets (N, ...) of all three splits, a third of the rows each."""

    inputs: Tensor
    targets: Tensor

    def size_in_bytes(self) -> int:
        """Return how many bytes both tensors have."""
        return self.inputs.nbytes + self.targets.nbytes

    def fingerprint(self) -> str:
        """Return the name that all fake data has."""
        return "fake"


class FakeDataset(Dataset[ContentT, dict[str, Any], SplitT]):
    """Base class of random data that is drawn as a `spec` describes it; no file is read."""

    def __init__(self, spec: Spec, batch_size: BatchSize, seed: int) -> None:
        size = fake_batch_size(batch_size)
        super().__init__(size, size, seed)
        self.count = fake_samples(size, spec.num_classes)
        self.described = spec

    def expected_size_in_bytes(self) -> int:
        """Return the size of the samples, which are small enough to make them for it."""
        return self.stored.size_in_bytes()

    def fake(self) -> Self:
        """Return this data: it is fake already."""
        return self

    def description(self) -> dict[str, Any]:
        """Return nothing: nothing was learned."""
        return {}

    def parse(self, description: dict[str, Any]) -> dict[str, Any]:
        """Return the description as it is."""
        return description

    def encode_file(self, path: Path) -> Iterator[Sample]:
        """Yield nothing: there is nothing to predict."""
        return iter(())


class Fake(FakeDataset[FakeContent, Split]):
    """Random rows of a table or a series like `spec`, for `check` and `debug=smoke`."""

    @property
    def spec(self) -> Spec:
        """The described shape, with values that are not standardized again."""
        return replace(
            self.described, train_samples=self.count, test_samples=self.count, mean=(), std=()
        )

    def read(self) -> FakeContent:
        """Draw inputs and targets of every split."""
        spec, total = self.described, 3 * self.count
        generator = keyed(self.seed)
        inputs = torch.randn(total, *spec.input_shape, generator=generator)
        first_category = spec.input_shape[-1] - len(spec.cardinalities)
        for column, values in enumerate(spec.cardinalities, first_category):
            inputs[..., column] = torch.randint(values, (total,), generator=generator).float()
        targets = torch.randn(total, len(spec.target_names), generator=generator)
        if spec.class_names:
            targets = torch.arange(total) % min(spec.num_classes, MAX_CLASSES)
        return FakeContent(inputs.to(self.device), targets.to(self.device))

    def make_split(self, part: Part, batch_size: BatchSize, seed: int | None) -> Split:
        """Return the batches of one third of the rows."""
        first = self.count * PARTS.index(part)
        rows = torch.arange(first, first + self.count)
        content = self.stored
        return Split(content.inputs, content.targets, rows, self.spec, batch_size, seed)

    def count_classes(self) -> tuple[int, ...]:
        """Return how often each class was drawn for training."""
        return self.train.class_counts(self.spec.num_classes)
