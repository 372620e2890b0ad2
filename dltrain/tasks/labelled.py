"""Part of a training set, kept in memory: the samples whose labels a stage may see."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from dltrain.rng import keyed
from dltrain.types import DataSplit


class Labelled:
    """Batches (inputs (B, ...), targets (B, ...)) of the first `count` samples of a split's first epoch, as they come there.

    That epoch is shuffled by the run's seed, so other seeds choose other samples. An epoch's order is a function of its
    number. All of them, if there are fewer.
    """

    def __init__(self, split: DataSplit, count: int) -> None:
        self.split, self.samples = split, min(count, split.samples)
        self.batch_size = min(split.batch_size, self.samples)

    @cached_property
    def stored(self) -> tuple[Tensor, Tensor]:
        enough = islice(self.split.epoch(0), -(-self.samples // self.split.batch_size))
        inputs, targets = zip(*enough, strict=True)
        return torch.cat(inputs)[: self.samples], torch.cat(targets)[: self.samples]

    @cached_property
    def sizes(self) -> list[int]:
        """Return the sizes of an epoch's batches; a last sample alone joins the batch before it."""
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
        inputs, targets = self.stored
        order = torch.randperm(self.samples, generator=keyed(number)).to(inputs.device)
        for rows in order.split(self.sizes)[start:]:
            yield inputs.index_select(0, rows), targets.index_select(0, rows)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...
