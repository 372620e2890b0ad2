"""A training split of which only some samples have a label that counts."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from dltrain.types import DataSplit, OrdersSamples
from dltrain.types.transfers import sent


class PartlyLabeled:
    """The batches of a split, each with a mask (B,) of the samples whose labels count.

    These are the first `count` samples of the split's first epoch, as in `LabeledSubset`: another
    seed gives others.

    Raises:
        ValueError: The split does not know which sample comes where.
    """

    def __init__(self, split: DataSplit, count: int) -> None:
        if not isinstance(split, OrdersSamples):
            raise ValueError(
                f"task.labels={count}: this data set does not know which sample comes where in an "
                "epoch; leave it out"
            )
        self.split = split
        self.order = split.order
        self.count = min(count, split.samples)
        self.batch_size = split.batch_size
        self.samples = split.samples

    @cached_property
    def is_labeled(self) -> Tensor:
        """The mask (N,) of the stored rows whose labels count."""
        rows = self.order(0)
        mask = torch.zeros(int(rows.max()) + 1, dtype=torch.bool)
        mask[rows[: self.count].cpu()] = True
        return mask

    def __len__(self) -> int:
        return len(self.split)

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield inputs (B, ...), targets (B, ...) and the mask (B,) from position `start` on."""
        counted = self.is_labeled[self.order(number).cpu()]
        place = start * self.batch_size
        for inputs, targets in self.split.epoch(number, start):
            mask = counted[place : place + len(inputs)]
            place += len(inputs)
            yield inputs, targets, sent(mask, inputs.device)

    def state_dict(self) -> dict[str, Any]:
        """Return what the split needs to continue."""
        return self.split.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the split continue."""
        self.split.load_state_dict(state)
