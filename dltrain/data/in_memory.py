"""Data held in memory in compact types, shuffled by key, and turned into batches without per-sample Python."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from dltrain.data.synthetic import Synthetic
from dltrain.errors import InputError
from dltrain.rng import keyed
from dltrain.types import BatchSize, Fraction, PositiveInt, Source, Spec

BLOCK_BYTES = 2**20  # gathered and normalized at once, then cut into batches: fewer calls, and it stays in cache
FAKE_BATCHES = 4


class Split:
    """Batches (inputs (B, C, H, W) float32 normalized, targets (B,)) over the rows `rows` of a stored set.

    With a `seed` the order of an epoch is a function of (seed, epoch number); without one it is the stored order.
    """

    def __init__(
        self, inputs: Tensor, targets: Tensor, rows: Tensor, spec: Spec, batch_size: BatchSize, seed: int | None
    ) -> None:
        self.inputs, self.targets, self.rows, self.seed = inputs, targets, rows, seed
        self.samples = len(rows)
        self.batch_size = max(1, self.samples) if batch_size == "all" else batch_size
        shape = (1, -1, 1, 1)
        self.scale = torch.tensor([1 / s for s in spec.std]).view(shape).to(inputs.device)
        self.shift = torch.tensor([-m / s for m, s in zip(spec.mean, spec.std, strict=True)]).view(shape).to(self.scale)
        batch_bytes = 4 * self.batch_size * inputs[0].numel()
        self.block = self.batch_size * max(1, BLOCK_BYTES // batch_bytes)

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size)

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        order = self.order(number).to(self.inputs.device)
        for first in range(start * self.batch_size, self.samples, self.block):
            rows = order[first : first + self.block]
            inputs = self.inputs[rows].to(torch.float32).mul_(self.scale).add_(self.shift)
            yield from zip(inputs.split(self.batch_size), self.targets[rows].split(self.batch_size), strict=True)

    def order(self, number: int) -> Tensor:
        """The rows of epoch `number` in the order in which they come."""
        if self.seed is None:
            return self.rows
        return self.rows[torch.randperm(self.samples, generator=keyed(self.seed, number))]

    def state_dict(self) -> dict[str, Any]:
        return {}  # a batch is a function of (seed, epoch, position)

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class InMemory:
    """A labelled image set from `source`, with a validation split taken from its training set.

    The split is stratified (the same share of every class) and a function of `split_seed` alone, so that runs with
    other seeds are compared on the same samples. `read` happens once, when a split is first used. `epochs` is how long a
    first training on this set should take: trainer.epochs is that unless it is set. `scaling` makes batches of mean 0 and
    standard deviation 1 by the set's known statistics, or only of range 0..1.
    """

    def __init__(
        self,
        source: Source,
        batch_size: BatchSize = 64,
        eval_batch_size: PositiveInt = 128,
        val_fraction: Fraction = 0.1,
        split_seed: int = 0,
        epochs: PositiveInt = 5,
        scaling: Literal["standardize", "unit"] = "standardize",
        seed: int = 0,
    ) -> None:
        self.source, self.batch_size, self.eval_batch_size = source, batch_size, eval_batch_size
        self.val_fraction, self.split_seed, self.seed = val_fraction, split_seed, seed
        self.epochs, self.scaling, self.device = epochs, scaling, torch.device("cpu")

    @property
    def spec(self) -> Spec:
        spec = self.source.spec
        if self.scaling == "unit":
            return replace(spec, mean=(0.0,) * len(spec.mean), std=(255.0,) * len(spec.std))
        return spec

    @cached_property
    def stored(self) -> dict[str, tuple[Tensor, Tensor]]:
        sets = self.source.read()
        for name, (inputs, targets) in sets.items():
            if len(inputs) != len(targets):
                raise InputError(f"the {name} set has {len(inputs)} inputs and {len(targets)} targets")
        return {name: (x.to(self.device), y.to(self.device)) for name, (x, y) in sets.items()}

    @cached_property
    def rows(self) -> tuple[Tensor, Tensor]:
        """Rows of the stored training set for training and for validation."""
        targets = self.stored["train"][1].cpu()
        if "val" in self.stored:
            return torch.arange(len(targets)), torch.arange(len(self.stored["val"][1]))
        held = torch.zeros(len(targets), dtype=torch.bool)
        for label in targets.unique().tolist():
            members = (targets == label).nonzero().squeeze(1)
            count = round(self.val_fraction * len(members))
            held[members[torch.randperm(len(members), generator=keyed(self.split_seed, label))[:count]]] = True
        return (~held).nonzero().squeeze(1), held.nonzero().squeeze(1)

    @cached_property
    def train(self) -> Split:
        split = Split(*self.stored["train"], self.rows[0], self.spec, self.batch_size, self.seed)
        if not split.samples:
            raise InputError("there are no training samples: all of them went into validation (dataset.val_fraction)")
        return split

    @cached_property
    def val(self) -> Split:
        stored = self.stored.get("val", self.stored["train"])
        return Split(*stored, self.rows[1], self.spec, self.eval_batch_size, None)

    @cached_property
    def test(self) -> Split:
        inputs, targets = self.stored["test"]
        return Split(inputs, targets, torch.arange(len(targets)), self.spec, self.eval_batch_size, None)

    def fake(self) -> InMemory:
        """Random images of the same shape and classes: a few small batches, no file."""
        size = 16 if self.batch_size == "all" else min(self.batch_size, 16)
        count = FAKE_BATCHES * max(size, self.spec.num_classes)
        spec = replace(self.spec, train_samples=count, test_samples=count)
        fake = InMemory(Synthetic.like(spec), size, size, 0.5, self.split_seed, seed=self.seed)
        fake.to(self.device)
        return fake

    def to(self, device: torch.device) -> None:
        self.device = device

    def size_in_bytes(self) -> int:
        if "stored" in self.__dict__:
            return sum(t.numel() * t.element_size() for pair in self.stored.values() for t in pair)
        channels, height, width = self.spec.input_shape
        return (channels * height * width + 8) * (self.spec.train_samples + self.spec.test_samples)

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for name, pair in sorted(self.stored.items()):
            for tensor in pair:
                digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()
