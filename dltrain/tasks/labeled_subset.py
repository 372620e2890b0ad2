"""The part of a training set whose labels a stage may see, held in memory."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from dltrain.rng import keyed
from dltrain.types import DataSplit


class LabeledSubset:
    """Batches (inputs (B, ...), targets (B, ...)) of the first `count` samples of a split.

    They are the first samples of the split's first epoch, which the run's seed shuffles: another
    seed gives another subset. A split with fewer samples is used whole. The order of an epoch is a
    function of its number.
    """

    def __init__(self, split: DataSplit, count: int) -> None:
        self.split = split
        self.samples = min(count, split.samples)
        self.batch_size = min(split.batch_size, self.samples)

    @cached_property
    def stored(self) -> tuple[Tensor, Tensor]:
        """Return the inputs and targets of the subset; read at the first use."""
        num_batches = -(-self.samples // self.split.batch_size)
        batches = islice(self.split.epoch(0), num_batches)
        inputs, targets = zip(*batches, strict=True)
        return torch.cat(inputs)[: self.samples], torch.cat(targets)[: self.samples]

    @cached_property
    def sizes(self) -> list[int]:
        """Return the sizes of an epoch's batches; a single last sample joins the last batch."""
        full, rest = divmod(self.samples, self.batch_size)
        sizes = [self.batch_size] * full
        if rest == 1:
            sizes[-1] += 1
        elif rest:
            sizes.append(rest)
        return sizes

    def __len__(self) -> int:
        return len(self.sizes)

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of epoch `number` from batch position `start` on."""
        inputs, targets = self.stored
        order = torch.randperm(self.samples, generator=keyed(number)).to(inputs.device)
        for rows in order.split(self.sizes)[start:]:
            yield inputs.index_select(0, rows), targets.index_select(0, rows)

    def state_dict(self) -> dict[str, Any]:
        """Return an empty state: a batch is a function of the seed, the epoch and its position."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing; see `state_dict`."""
