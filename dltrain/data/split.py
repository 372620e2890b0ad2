"""One split of a data set in memory: rows shuffled by key and turned into batches without per-sample Python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from dltrain.data.balance import equally_often
from dltrain.rng import keyed
from dltrain.types import BatchSize, Spec, Transform

BLOCK_BYTES = (
    2**20
)  # gathered and normalized at once, then cut into batches: fewer calls, and it stays in cache


def batch_count(samples: int, batch_size: int, training: bool) -> int:
    """Return how many batches an epoch has.

    The last batch has what is left over. In training a left-over of a single sample is joined to
    the batch before it: batch norm cannot compute a variance from one sample.
    """
    count = -(-samples // batch_size)
    alone = samples % batch_size == 1 and 1 < batch_size < samples
    return count - 1 if training and alone else count


class Split:
    """Batches (inputs (B, ...) float32 standardized, targets (B, ...)) over the rows `rows` of a stored set.

    `spec` says how inputs are standardized. With a `seed` the order of an epoch is a function of (seed, epoch number),
    and what `transforms` draw for a batch one of (seed, epoch number, position); without one the order is the stored
    one, and transforms that are for training only are left out. A `balanced` epoch draws each class equally often, with
    replacement.
    """

    def __init__(
        self,
        inputs: Tensor,
        targets: Tensor,
        rows: Tensor,
        spec: Spec,
        batch_size: BatchSize,
        seed: int | None,
        transforms: Sequence[Transform] = (),
        balanced: bool = False,
    ) -> None:
        self.balanced = balanced and seed is not None
        self.inputs, self.targets, self.rows, self.seed = inputs, targets, rows, seed
        self.samples = len(rows)
        self.batch_size = max(1, self.samples) if batch_size == "all" else batch_size
        shape = (
            (1, -1, *[1] * (inputs.ndim - 2))
            if spec.is_image
            else (1, *[1] * (inputs.ndim - 2), -1)
        )
        self.scale = torch.tensor([1 / s for s in spec.std]).view(shape).to(inputs.device)
        self.shift = (
            torch.tensor([-m / s for m, s in zip(spec.mean, spec.std, strict=True)])
            .view(shape)
            .to(self.scale)
        )
        self.standardized = bool(spec.std)
        chosen = [t for t in transforms if seed is not None or not t.training_only]
        self.before = [t for t in chosen if not t.normalized]
        self.after = [t for t in chosen if t.normalized]
        self.num_classes = spec.num_classes if any(t.mixes_targets for t in chosen) else 0
        batch_bytes = 4 * self.batch_size * inputs[0].numel() if len(inputs) else 1
        self.batches_per_block = max(1, BLOCK_BYTES // batch_bytes)
        self.count = batch_count(self.samples, self.batch_size, training=seed is not None)

    def __len__(self) -> int:
        return self.count

    def stop(self, position: int) -> int:
        """Return where the batch at `position` of an epoch ends, in samples."""
        return self.samples if position + 1 >= self.count else (position + 1) * self.batch_size

    def batch_rows(self, order: Tensor, position: int) -> Tensor:
        """Return the rows of the batch at `position` of an epoch whose rows come in `order`."""
        return order[position * self.batch_size : self.stop(position)]

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        order = self.order(number).to(self.inputs.device)
        if self.before or self.after:
            for position in range(start, len(self)):
                inputs, targets = self.gather(self.batch_rows(order, position))
                yield self.transformed(inputs, targets, keyed(self.seed or 0, number, position))
            return
        for position in range(start, len(self), self.batches_per_block):
            last = min(position + self.batches_per_block, len(self)) - 1
            inputs, targets = self.gather(order[position * self.batch_size : self.stop(last)])
            inputs = self.standardize(inputs)
            sizes = [self.batch_size] * (last - position)
            sizes.append(len(inputs) - sum(sizes))
            yield from zip(inputs.split(sizes), targets.split(sizes), strict=True)

    def gather(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Copies of the stored samples `rows`, inputs as floats (index_select copies whole rows, indexing element-wise)."""
        return self.inputs.index_select(0, rows).to(torch.float32), self.targets.index_select(
            0, rows
        )

    def transformed(
        self, inputs: Tensor, targets: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """A gathered batch through every transform; its class numbers become shares (B, K) where one mixes them."""
        if self.num_classes:
            targets = torch.nn.functional.one_hot(targets, self.num_classes).to(inputs)
        for transform in self.before:
            inputs, targets = transform(inputs, targets, generator)
        inputs = self.standardize(inputs)
        for transform in self.after:
            inputs, targets = transform(inputs, targets, generator)
        return inputs, targets

    def standardize(self, inputs: Tensor) -> Tensor:
        """In place: `inputs` are a copy already."""
        return inputs.mul_(self.scale).add_(self.shift) if self.standardized else inputs

    def order(self, number: int) -> Tensor:
        """The rows of epoch `number` in the order in which they come."""
        if self.seed is None:
            return self.rows
        if self.balanced:
            return self.rows[equally_often(self.targets.cpu()[self.rows], keyed(self.seed, number))]
        return self.rows[torch.randperm(self.samples, generator=keyed(self.seed, number))]

    def class_counts(self, num_classes: int) -> tuple[int, ...]:
        """How many samples each class has; nothing where the targets are no classes."""
        if not num_classes:
            return ()
        counts: list[int] = torch.bincount(
            self.targets.cpu()[self.rows], minlength=num_classes
        ).tolist()
        return tuple(counts)

    def state_dict(self) -> dict[str, Any]:
        return {}  # a batch is a function of (seed, epoch, position)

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def held_out(
    targets: Tensor, fraction: float, seed: int, folds: int | None = None, fold: int = 0
) -> Tensor:
    """Which of the samples (N,) are for validation: `fraction` of them, or with `folds` the `fold`-th of k equal parts.

    Integer targets (N,) are classes: the same share of each is held out. It is a function of `seed` alone, so that runs
    with other seeds are compared on the same samples.
    """
    classes = (
        targets
        if targets.ndim == 1 and not targets.is_floating_point()
        else torch.zeros(len(targets))
    )
    held = torch.zeros(len(targets), dtype=torch.bool)
    labels, counts = classes.unique(return_counts=True)
    by_class = classes.argsort(stable=True).split(counts.tolist())
    for label, members in zip(labels.tolist(), by_class, strict=True):
        order = members[torch.randperm(len(members), generator=keyed(seed, int(label)))]
        part = (
            order[: round(fraction * len(members))]
            if folds is None
            else order[(fold + int(label)) % folds :: folds]
        )
        held[part] = True
    return held


def drawn_share(fraction: float, what: str, split_seed: int) -> str:
    """Return in words which share of the data was drawn for testing."""
    return f"{100 * fraction:g} % of {what}, drawn by dataset.split_seed={split_seed}"
