"""Splits of data: which samples are held out, and the others in the batches of an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from dltrain.rng import keyed
from dltrain.types import BatchSize, Spec, Transform

Balance: TypeAlias = Literal["none", "weights", "sampler", "focal"]
"""How rare classes are balanced.

`sampler` draws each class equally often; `weights` and `focal` change the loss instead
(dltrain.config.balance).
"""

# Batches are gathered and standardized in blocks of this size, then cut apart: that takes fewer
# calls, and a block stays in the cache of the CPU.
BLOCK_BYTES = 2**20


def batch_count(samples: int, batch_size: int, training: bool) -> int:
    """Return how many batches an epoch has.

    The last batch has what is left over. In training, a single left-over sample joins the batch
    before it: batch norm cannot compute a variance from one sample.
    """
    count = -(-samples // batch_size)
    is_single = samples % batch_size == 1 and 1 < batch_size < samples
    if training and is_single:
        return count - 1
    return count


class Split:
    """Batches (inputs (B, ...) float32, targets (B, ...)) of some `rows` of a stored set.

    `spec` has the means and standard deviations by which inputs are standardized. With a `seed` the
    order of an epoch is a function of (seed, epoch number), and what `transforms` draw for a batch
    one of (seed, epoch number, position); without a seed the order is the stored one, and
    transforms that are for training only are left out. A `balanced` epoch draws each class equally
    often, with replacement.
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
        self.before = [transform for transform in used if not transform.normalized]
        self.after = [transform for transform in used if transform.normalized]
        self.num_classes = 0  # of targets that are mixed
        if any(transform.mixes_targets for transform in used):
            self.num_classes = spec.num_classes

    def __len__(self) -> int:
        return self.count

    def stop(self, position: int) -> int:
        """Return where the batch at `position` of an epoch ends, in samples."""
        is_last = position + 1 >= self.count
        return self.samples if is_last else (position + 1) * self.batch_size

    def batch_rows(self, order: Tensor, position: int) -> Tensor:
        """Return the rows of the batch at `position` of an epoch whose rows come in `order`."""
        return order[position * self.batch_size : self.stop(position)]

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of epoch `number` from position `start` on."""
        order = self.order(number).to(self.inputs.device)
        if self.before or self.after:
            return self.transformed_batches(order, number, start)
        return self.plain_batches(order, start)

    def transformed_batches(
        self, order: Tensor, number: int, start: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches from `start` on, each through every transform."""
        for position in range(start, len(self)):
            inputs, targets = self.gather(self.batch_rows(order, position))
            yield self.transformed(inputs, targets, keyed(self.seed or 0, number, position))

    def plain_batches(self, order: Tensor, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches from `start` on, gathered and standardized a block at a time."""
        for position in range(start, len(self), self.batches_per_block):
            last = min(position + self.batches_per_block, len(self)) - 1
            inputs, targets = self.gather(order[position * self.batch_size : self.stop(last)])
            inputs = self.standardize(inputs)
            sizes = [self.batch_size] * (last - position)
            sizes.append(len(inputs) - sum(sizes))
            yield from zip(inputs.split(sizes), targets.split(sizes), strict=True)

    def gather(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return copies of the stored samples `rows`, the inputs as float32.

        `index_select` copies whole rows; indexing would copy value by value.
        """
        inputs = self.inputs.index_select(0, rows).to(torch.float32)
        return inputs, self.targets.index_select(0, rows)

    def transformed(
        self, inputs: Tensor, targets: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return a gathered batch after every transform.

        If a transform mixes targets, class numbers (B,) become shares of classes (B, K).
        """
        if self.num_classes:
            targets = torch.nn.functional.one_hot(targets, self.num_classes).to(inputs)
        for transform in self.before:
            inputs, targets = transform(inputs, targets, generator)
        inputs = self.standardize(inputs)
        for transform in self.after:
            inputs, targets = transform(inputs, targets, generator)
        return inputs, targets

    def standardize(self, inputs: Tensor) -> Tensor:
        """Return the standardized `inputs`, which are copies already and are changed in place."""
        if not self.standardized:
            return inputs
        return inputs.mul_(self.scale).add_(self.shift)

    def order(self, number: int) -> Tensor:
        """Return the rows of epoch `number` in their order."""
        if self.seed is None:
            return self.rows
        generator = keyed(self.seed, number)
        if self.balanced:
            return self.rows[equally_often(self.targets.cpu()[self.rows], generator)]
        return self.rows[torch.randperm(self.samples, generator=generator)]

    def class_counts(self, num_classes: int) -> tuple[int, ...]:
        """Return the number of samples of each class; empty if there are no classes."""
        if not num_classes:
            return ()
        labels = self.targets.cpu()[self.rows]
        counts: list[int] = torch.bincount(labels, minlength=num_classes).tolist()
        return tuple(counts)

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: a batch is a function of (seed, epoch, position)."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load nothing."""


def batches_per_block(inputs: Tensor, batch_size: int) -> int:
    """Return how many batches of float32 fit in a block; at least one."""
    if not len(inputs):
        return BLOCK_BYTES
    batch_bytes = 4 * batch_size * inputs[0].numel()
    return max(1, BLOCK_BYTES // batch_bytes)


def scale_and_shift(spec: Spec, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the factor and the addend that standardize inputs: x / std - mean / std.

    They have the shape (1, C, 1, 1) for images, else one value for each feature of the last axis.
    """
    shape = [1] * inputs.ndim
    shape[1 if spec.is_image else -1] = -1
    scales = [1 / std for std in spec.std]
    shifts = [-mean / std for mean, std in zip(spec.mean, spec.std, strict=True)]
    scale = torch.tensor(scales).view(shape).to(inputs.device)
    return scale, torch.tensor(shifts).view(shape).to(scale)


def without_training_only(transforms: Sequence[Transform]) -> list[Transform]:
    """Return the transforms that are for evaluation too."""
    return [transform for transform in transforms if not transform.training_only]


def equally_often(classes: Tensor, generator: torch.Generator) -> Tensor:
    """Return as many positions in `classes` (N,) as it has, drawn so that all classes are balanced.

    They come in random order and with replacement: each class that occurs is drawn equally often,
    up to one, and every sample of a class is as likely as another.
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


def held_out(
    targets: Tensor, fraction: float, seed: int, folds: int | None = None, fold: int = 0
) -> Tensor:
    """Return which samples (N,) are held out: a `fraction`, or the `fold`-th of k `folds`.

    Integer targets (N,) are classes, and the same fraction of each is held out. The choice is a
    function of `seed` alone, so that runs with other seeds are compared on the same samples.
    """
    has_classes = targets.ndim == 1 and not targets.is_floating_point()
    classes = targets if has_classes else torch.zeros(len(targets))
    held = torch.zeros(len(targets), dtype=torch.bool)
    labels, counts = classes.unique(return_counts=True)
    by_class = classes.argsort(stable=True).split(counts.tolist())
    for label, members in zip(labels.tolist(), by_class, strict=True):
        order = members[torch.randperm(len(members), generator=keyed(seed, int(label)))]
        if folds is None:
            part = order[: round(fraction * len(members))]
        else:
            part = order[(fold + int(label)) % folds :: folds]
        held[part] = True
    return held


def check_fold(folds: int | None, fold: int) -> None:
    """Raise ValueError for a `fold` that is not one of the `folds`."""
    if folds is not None and fold >= folds:
        raise ValueError(f"dataset.fold={fold} is not one of the {folds} folds: they count from 0")


def drawn_share(fraction: float, what: str, split_seed: int) -> str:
    """Return in words which share of the data was drawn for testing."""
    return f"{100 * fraction:g} % of {what}, drawn by dataset.split_seed={split_seed}"
