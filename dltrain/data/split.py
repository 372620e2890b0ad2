"""The batches of an epoch of a split. Which samples a split has: dltrain.data.held_out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol, TypeAlias

import torch
from torch import Tensor

from dltrain.rng import keyed
from dltrain.types import BatchSize, FollowsSamples, RowsOf, Spec, Transform
from dltrain.types.own_code import MisfitError, described_class, is_of_library
from dltrain.types.transfers import sent

Balance: TypeAlias = Literal["none", "weights", "sampler", "focal"]
"""How rare classes are balanced.

`sampler` draws each class equally often; `weights` and `focal` change the loss instead
(dltrain.config.balance).
"""

# Batches are gathered and standardized in blocks of this size, then cut apart: that takes fewer
# calls, and a block stays in the cache of the CPU.
BLOCK_BYTES = 2**20


def batch_count(samples: int, batch_size: int, training: bool) -> int:
    """Return the number of batches in an epoch.

    The last batch may be smaller. In training, a last batch of one sample is joined to the batch
    before it, because batch norm cannot compute a variance from one sample.
    """
    count = math.ceil(samples / batch_size)
    last_has_one_sample = samples % batch_size == 1 and 1 < batch_size < samples
    if training and last_has_one_sample:
        return count - 1
    return count


class EpochOrder(Protocol):
    """The rows of an epoch in their order: a tensor (N,), or rows that are computed when needed."""

    def __getitem__(self, positions: slice, /) -> Tensor:
        """Return the rows at some positions of the epoch."""


@dataclass(frozen=True)
class BatchPlace:
    """The place of a training batch: the epoch, the position in it, and the rows (B,)."""

    epoch: int
    position: int
    rows: Tensor


class Split:
    """The `rows` of a stored data set, in batches of inputs (B, ...) float32 and targets (B, ...).

    With a `seed` the split is for training: the order of an epoch is a function of (seed, epoch),
    and the random numbers of `transforms` for a batch are a function of (seed, epoch, position).
    Without a seed it is for evaluation: the order is the stored one, and transforms for training
    only are skipped.

    `spec` has the mean and standard deviation that inputs are standardized with. A `balanced` epoch
    draws each class equally often, with replacement.
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
        is_training = seed is not None
        self.inputs = inputs
        self.targets = targets
        self.rows = rows
        self.seed = seed
        self.balanced = balanced and is_training
        self.samples = len(rows)
        self.batch_size = max(1, self.samples) if batch_size == "all" else batch_size
        self.count = batch_count(self.samples, self.batch_size, is_training)
        self.batches_per_block = batches_per_block(inputs, self.batch_size)
        self.standardized = bool(spec.std)
        self.scale, self.shift = scale_and_shift(spec, inputs)
        used = list(transforms) if is_training else without_training_only(transforms)
        self.transforms_before = [each for each in used if not each.normalized]
        self.transforms_after = [each for each in used if each.normalized]  # standardization
        self.shapes = shapes_after([*self.transforms_before, *self.transforms_after], inputs)
        self.has_transforms = bool(used)
        self.changes_samples_alone = all(map(changes_samples_alone, used))
        self.num_classes = 0  # of the one-hot targets of mixed samples; 0 for class numbers
        if any(transform.mixes_targets for transform in used):
            self.num_classes = spec.num_classes

    def __len__(self) -> int:
        return self.count

    def end_of_batch(self, position: int) -> int:
        """Return the number of samples in an epoch up to the end of the batch at `position`."""
        is_last = position + 1 >= self.count
        return self.samples if is_last else (position + 1) * self.batch_size

    def batch_rows(self, order: EpochOrder, position: int) -> Tensor:
        """Return the rows of the batch at `position` of an epoch whose rows come in `order`."""
        return order[position * self.batch_size : self.end_of_batch(position)]

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Return the batches of epoch `number` from position `start` on."""
        order = sent(self.order(number), self.inputs.device)
        if self.has_transforms:
            return self.transformed_batches(order, number, start)
        return self.plain_batches(order, start)

    def shared_epoch(
        self, number: int, start: int, rows: RowsOf
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Return the part `rows(B)` of each batch (B, ...) of epoch `number` from `start` on."""
        order = sent(self.order(number), self.inputs.device)
        if self.has_transforms:
            return shared(self.transformed_batches(order, number, start), rows)
        return self.plain_parts(order, start, rows)

    def plain_parts(
        self, order: Tensor, start: int, rows: RowsOf
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield a part of each batch from `start` on, gathered without the rest of the batch."""
        for position in range(start, len(self)):
            batch = self.batch_rows(order, position)
            inputs, targets = self.gather(batch[rows(len(batch))])
            yield self.standardize(inputs), targets

    def transformed_batches(
        self, order: Tensor, number: int, start: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches from `start` on, each after every transform."""
        for position in range(start, len(self)):
            place = BatchPlace(number, position, self.batch_rows(order, position))
            inputs, targets = self.gather(place.rows)
            yield self.transformed(inputs, targets, place)

    def plain_batches(self, order: Tensor, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches from `start` on, gathered and standardized block by block."""
        for position in range(start, len(self), self.batches_per_block):
            last = min(position + self.batches_per_block, len(self)) - 1
            block = order[position * self.batch_size : self.end_of_batch(last)]
            inputs, targets = self.gather(block)
            inputs = self.standardize(inputs)
            sizes = [self.batch_size] * (last - position)
            sizes.append(len(inputs) - sum(sizes))
            yield from zip(inputs.split(sizes), targets.split(sizes), strict=True)

    def gather(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return copies of the stored samples `rows`, the inputs as float32.

        `index_select` copies whole rows and is faster than indexing, which copies value by value.
        """
        inputs = self.inputs.index_select(0, rows).to(torch.float32)
        return inputs, self.targets.index_select(0, rows)

    def transformed(
        self, inputs: Tensor, targets: Tensor, place: BatchPlace
    ) -> tuple[Tensor, Tensor]:
        """Return the gathered batch of `place` after every transform.

        If a transform mixes targets, class numbers (B,) become class probabilities (B, K).
        """
        if self.num_classes:
            targets = torch.nn.functional.one_hot(targets, self.num_classes).to(inputs)
        generator = keyed(self.seed or 0, place.epoch, place.position)
        shapes = iter(self.shapes)
        for transform in self.transforms_before:
            inputs, targets = self.at(transform, place)(inputs, targets, generator)
            require_shape(transform, inputs, next(shapes))
        inputs = self.standardize(inputs)
        for transform in self.transforms_after:
            inputs, targets = self.at(transform, place)(inputs, targets, generator)
            require_shape(transform, inputs, next(shapes))
        return inputs, targets

    def at(self, transform: Transform, place: BatchPlace) -> Transform:
        """Return the transform as it is for the samples of a batch."""
        if isinstance(transform, FollowsSamples):
            return transform.following(place.rows, place.epoch, self.seed or 0)
        return transform

    def standardize(self, inputs: Tensor) -> Tensor:
        """Standardize `inputs` in place and return them; they are copies of the stored samples."""
        if not self.standardized:
            return inputs
        return inputs.mul_(self.scale).add_(self.shift)

    def order(self, number: int) -> Tensor:
        """Return the rows of epoch `number` in their order."""
        if self.seed is None:
            return self.rows
        generator = keyed(self.seed, number)
        if self.balanced:
            return self.rows[balanced_positions(self.host_targets, generator)]
        return self.rows[torch.randperm(self.samples, generator=generator)]

    @cached_property
    def host_targets(self) -> Tensor:
        """The targets of the split (N, ...) in the host's memory, read once."""
        return self.targets.cpu()[self.rows]

    def class_counts(self, num_classes: int) -> tuple[int, ...]:
        """Return the number of samples of each class; empty if there are no classes."""
        if not num_classes:
            return ()
        counts: list[int] = torch.bincount(self.host_targets, minlength=num_classes).tolist()
        return tuple(counts)

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: a batch is a function of (seed, epoch, position)."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load nothing."""


def shared(
    batches: Iterator[tuple[Tensor, Tensor]], rows: RowsOf
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the part `rows(B)` of each batch of inputs (B, ...) and targets (B, ...)."""
    for inputs, targets in batches:
        part = rows(len(inputs))
        yield inputs[part], targets[part]


def changes_samples_alone(transform: Transform) -> bool:
    """Return whether what a transform makes of a sample depends on no other sample of the batch.

    It is so for every transform of dltrain that does not mix targets. One of a user's own may look
    at the whole batch.
    """
    return is_of_library(transform) and not transform.mixes_targets


def shapes_after(transforms: Sequence[Transform], inputs: Tensor) -> list[tuple[int, ...]]:
    """Return the shape of one of the inputs (N, ...) after each of the transforms."""
    shapes = []
    shape = tuple(inputs.shape[1:])
    for transform in transforms:
        shape = transform.shape(shape)
        shapes.append(tuple(shape))
    return shapes


def require_shape(transform: Transform, inputs: Tensor, shape: tuple[int, ...]) -> None:
    """Raise MisfitError if a transform returned inputs (B, ...) of another shape than it says."""
    if tuple(inputs.shape[1:]) != shape:
        raise MisfitError(
            f"{described_class(transform)} returned inputs {tuple(inputs.shape)}, but by its "
            f"method `shape` each of them has the shape {shape}",
            transform,
        )


def batches_per_block(inputs: Tensor, batch_size: int) -> int:
    """Return the number of float32 batches that fit in a block, at least one."""
    if not len(inputs):
        return BLOCK_BYTES
    batch_bytes = 4 * batch_size * inputs[0].numel()
    return max(1, BLOCK_BYTES // batch_bytes)


def scale_and_shift(spec: Spec, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scale 1 / std and the shift -mean / std that standardize inputs.

    They have the shape (1, C, 1, 1) for images, else one value for each feature of the last axis.
    """
    shape = [1] * inputs.ndim
    shape[1 if spec.is_image else -1] = -1
    scales = [1 / std for std in spec.std]
    shifts = [-mean / std for mean, std in zip(spec.mean, spec.std, strict=True)]
    scale = torch.tensor(scales).view(shape)
    return scale.to(inputs.device), torch.tensor(shifts).view(shape).to(inputs.device)


def without_training_only(transforms: Sequence[Transform]) -> list[Transform]:
    """Return the transforms that evaluation uses too."""
    return [transform for transform in transforms if not transform.training_only]


def balanced_positions(classes: Tensor, generator: torch.Generator) -> Tensor:
    """Draw N positions in `classes` (N,) with replacement, so that all classes are balanced.

    The positions are in random order. The numbers of samples of any two classes differ by at most
    one, and all samples of a class are equally likely.
    """
    labels, counts = classes.unique(return_counts=True)
    starts = counts.cumsum(0) - counts
    # The order decides which classes are drawn once more than the others.
    order = torch.randperm(len(labels), generator=generator)
    chosen = order[torch.arange(len(classes)) % len(labels)]
    uniform = torch.rand(len(classes), generator=generator, dtype=torch.float64)
    offsets = (uniform * counts[chosen]).long()
    drawn = classes.argsort(stable=True)[starts[chosen] + offsets]
    return drawn[torch.randperm(len(drawn), generator=generator)]
