"""Random batches of any described shape, without a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from dltrain.data.split import Split
from dltrain.rng import keyed
from dltrain.types import BatchSize, Sample, Spec

BATCHES = 4  # of each split
MOST = 16  # samples of a batch
MAX_CLASSES = (
    100  # that occur in fake data: of more there would be as many samples, which may be large
)


def fake_samples(batch_size: int, num_classes: int) -> int:
    """Return how many samples a split of fake data has: a few batches, and some of each class that
    occurs.
    """
    return BATCHES * max(batch_size, min(num_classes, MAX_CLASSES))


class Fake:
    """What `check` and `debug=smoke` run on instead of a table or a series that `spec` describes."""

    def __init__(self, spec: Spec, batch_size: BatchSize, seed: int) -> None:
        size = MOST if batch_size == "all" else min(batch_size, MOST)
        count = fake_samples(size, spec.num_classes)
        self.spec = replace(spec, train_samples=count, test_samples=count, mean=(), std=())
        generator = keyed(seed)
        inputs = torch.randn(3 * count, *spec.input_shape, generator=generator)
        for column, values in zip(
            range(-len(spec.cardinalities), 0), spec.cardinalities, strict=True
        ):
            inputs[..., column] = torch.randint(values, (3 * count,), generator=generator).float()
        targets = torch.randn(3 * count, len(spec.target_names), generator=generator)
        if spec.class_names:
            targets = torch.arange(3 * count) % min(spec.num_classes, MAX_CLASSES)
        self.parts, self.size, self.seed = (inputs, targets), size, seed
        self.rows = torch.arange(3 * count).split(count)

    @property
    def train(self) -> Split:
        return Split(*self.parts, self.rows[0], self.spec, self.size, self.seed)

    @property
    def val(self) -> Split:
        return Split(*self.parts, self.rows[1], self.spec, self.size, None)

    @property
    def test(self) -> Split:
        return Split(*self.parts, self.rows[2], self.spec, self.size, None)

    @property
    def class_counts(self) -> tuple[int, ...]:
        return self.train.class_counts(self.spec.num_classes)

    def fake(self) -> Fake:
        return self

    def to(self, device: torch.device) -> None:
        inputs, targets = self.parts
        self.parts = inputs.to(device), targets.to(device)

    def size_in_bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in self.parts)

    def fingerprint(self) -> str:
        return "fake"

    def description(self) -> dict[str, Any]:
        return {}

    def restore(self, description: dict[str, Any]) -> None: ...

    def encode(self, paths: Sequence[Path]) -> Iterator[Sample]:
        return iter(())
