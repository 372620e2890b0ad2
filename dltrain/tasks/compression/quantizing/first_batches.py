"""The first batches of a split, as an epoch of their own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from dltrain.types import DataSplit


class FirstBatches:
    """The first `count` batches of the first epoch of a split, fewer where it has fewer."""

    def __init__(self, split: DataSplit, count: int) -> None:
        self.split = split
        self.count = min(count, len(split))
        self.batch_size = split.batch_size
        self.samples = min(split.samples, self.count * split.batch_size)

    def __len__(self) -> int:
        return self.count

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        """Yield the batches from position `start` on; they are the same in every epoch."""
        yield from islice(self.split.epoch(0, start), self.count - start)

    def state_dict(self) -> dict[str, Any]:
        """Return what the split needs to continue."""
        return self.split.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with the batches of a saved state."""
        self.split.load_state_dict(state)
