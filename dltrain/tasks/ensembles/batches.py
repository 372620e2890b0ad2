"""The training batches of one member of an ensemble."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from dltrain.rng import keyed
from dltrain.types import DataSplit, OrdersSamples
from dltrain.types.transfers import sent

EPOCHS_APART = 100_000  # even, as there are transforms that do the opposite in every other epoch
FOLD_KEY = 815  # of the random numbers that divide samples into folds


class OwnEpochs:
    """The batches of a split in another order for each member, which `number` counts from 0.

    Member 0 gets the epochs of the split, member 1 those from `EPOCHS_APART` on, and so on. So a
    batch is a function of the seed, the member, the epoch and its position.
    """

    def __init__(self, split: DataSplit, number: int) -> None:
        self.split = split
        self.first_epoch = number * EPOCHS_APART
        self.samples = split.samples
        self.batch_size = split.batch_size

    def __len__(self) -> int:
        return len(self.split)

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        """Yield the batches of epoch `number` from batch position `start` on."""
        return self.split.epoch(self.first_epoch + number, start)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resume needs to continue with the same batches."""
        return self.split.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with the batches of `state`."""
        self.split.load_state_dict(state)


class Folds:
    """A random division of a training split into `count` folds of about equal size.

    Raises:
        ValueError: The split does not tell which sample is where in an epoch, has samples several
            times in an epoch, or has too few samples.
    """

    def __init__(self, split: DataSplit, count: int) -> None:
        if not isinstance(split, OrdersSamples):
            raise ValueError(
                "method=folds: this data set does not tell which samples a batch has; "
                "choose method=seeds"
            )
        self.split = split
        self.count = count
        self.order = split.order
        self.rows = split.order(0).unique()
        if len(self.rows) < split.samples:
            raise ValueError(
                "method=folds: an epoch has samples several times (dataset.balance=sampler); "
                "choose method=seeds"
            )
        if len(self.rows) < 2 * count:
            raise ValueError(
                f"method=folds: {len(self.rows)} training samples cannot be divided into {count} "
                "folds; set a smaller task.members"
            )

    @cached_property
    def fold_of_row(self) -> Tensor:
        """The fold (R,) of each stored row; -1 for rows of other splits."""
        shuffled = torch.randperm(len(self.rows), generator=keyed(FOLD_KEY))
        folds = torch.full((int(self.rows[-1]) + 1,), -1)
        folds[self.rows] = shuffled % self.count
        return folds

    def folds_of(self, number: int) -> Tensor:
        """Return the fold (N,) of each sample of epoch `number`, in the order of its batches."""
        return self.fold_of_row[self.order(number).cpu()]


class WithoutFold:
    """Batches of a split without the samples of one fold, in another order for each fold.

    The batches are as large as those of the split, and their order is that of `OwnEpochs`.
    """

    def __init__(self, folds: Folds, fold: int) -> None:
        self.folds = folds
        self.fold = fold
        self.first_epoch = fold * EPOCHS_APART
        self.samples = int((folds.fold_of_row[folds.rows] != fold).sum())
        self.batch_size = min(folds.split.batch_size, self.samples)
        full, rest = divmod(self.samples, self.batch_size)
        self.sizes = [self.batch_size] * full
        if rest == 1:  # batch norm cannot compute a variance from one sample
            self.sizes[-1] += 1
        elif rest:
            self.sizes.append(rest)

    def __len__(self) -> int:
        return len(self.sizes)

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of epoch `number` from batch position `start` on."""
        number += self.first_epoch
        kept = self.folds.folds_of(number) != self.fold
        if start >= len(self):
            return
        first_place = kept.nonzero().squeeze(1)[start * self.batch_size]
        first_batch = int(first_place) // self.folds.split.batch_size
        first_sample = first_batch * self.folds.split.batch_size
        waiting = self._kept(number, first_batch, kept)
        skipped = start * self.batch_size - int(kept[:first_sample].sum())
        yield from rebatched(waiting, skipped, self.sizes[start:])

    def _kept(self, number: int, first: int, kept: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the samples of each batch from `first` on that are `kept` (N,)."""
        place = first * self.folds.split.batch_size
        for inputs, targets in self.folds.split.epoch(number, first):
            if targets.is_floating_point():
                raise ValueError("method=folds: samples are mixed with those of other folds")
            rows = kept[place : place + len(targets)].nonzero().squeeze(1)
            rows = sent(rows, targets.device)
            place += len(targets)
            yield inputs.index_select(0, rows), targets.index_select(0, rows)

    def state_dict(self) -> dict[str, Any]:
        """Return an empty state: a batch is a function of seed, fold, epoch and position."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing; see `state_dict`."""


def rebatched(
    batches: Iterator[tuple[Tensor, Tensor]], skipped: int, sizes: Sequence[int]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the samples of `batches` in batches of other sizes; the first `skipped` are left out.

    What is left after the last size is dropped.
    """
    inputs, targets = next(batches)
    inputs = inputs[skipped:]
    targets = targets[skipped:]
    for size in sizes:
        while len(targets) < size:
            more_inputs, more_targets = next(batches)
            inputs = torch.cat([inputs, more_inputs])
            targets = torch.cat([targets, more_targets])
        yield inputs[:size], targets[:size]
        inputs = inputs[size:]
        targets = targets[size:]
