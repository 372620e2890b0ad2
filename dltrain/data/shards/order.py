"""The order in which an epoch reads the samples of shards: shuffled within windows of shards."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dltrain.rng import keyed

WITHIN = 1  # distinguishes the key of a window's order from that of a batch's random numbers
WINDOWS_KEPT = 3  # whose order is not computed again


class ShardOrder(Protocol):
    """The rows of an epoch in order, and the shards that they need."""

    def __getitem__(self, positions: slice, /) -> Tensor:
        """Return the rows at some positions of the epoch."""

    def following(self, shards: list[int]) -> list[int]:
        """Return the shards that are needed soon after some shards."""


@dataclass(frozen=True)
class ByShard:
    """The rows (n,) of a split, those of one shard together and as they follow each other there.

    Shard `numbers[i]` has the rows from `starts[i]` up to `starts[i + 1]`.
    """

    rows: Tensor
    numbers: list[int]
    starts: list[int]

    @classmethod
    def of(cls, rows: Tensor, shards: NDArray[np.uint32], offsets: NDArray[np.uint64]) -> ByShard:
        """Group rows (n,) by the shard (n,) of each and its offset (n,) there."""
        order = np.lexsort((offsets, shards))
        numbers, counts = np.unique(shards, return_counts=True)
        starts = np.concatenate([[0], counts.cumsum()])
        return cls(rows[torch.from_numpy(order)], numbers.tolist(), starts.tolist())


class WindowOrder:
    """An order in which shards are shuffled, and the samples of every `window` shards among them.

    All of it is a function of (seed, epoch), and every part can be computed by itself: a resume
    needs only the shards of its window. Without a seed, the order is that of the shards.
    """

    def __init__(self, split: ByShard, window: int, seed: int | None, epoch: int) -> None:
        self.split = split
        self.seed = seed
        self.epoch = epoch
        count = len(split.numbers)
        places = torch.arange(count)
        if seed is not None:
            places = torch.randperm(count, generator=keyed(seed, epoch))
        number_of_windows = max(1, -(-count // window))
        self.windows = [part.tolist() for part in places.tensor_split(number_of_windows)]
        sizes = [sum(map(self.size, places)) for places in self.windows]
        self.starts = [0, *np.cumsum(sizes).tolist()]
        self.window_of = {
            split.numbers[place]: number
            for number, places in enumerate(self.windows)
            for place in places
        }
        self.rows_of_window = lru_cache(WINDOWS_KEPT)(self.shuffled)

    def size(self, place: int) -> int:
        """Return how many rows a shard has."""
        return self.split.starts[place + 1] - self.split.starts[place]

    def __getitem__(self, positions: slice) -> Tensor:
        """Return the rows at some positions of the epoch."""
        start, stop, _ = positions.indices(self.starts[-1])
        parts = [self.split.rows[:0]]
        while start < stop:
            window = bisect_right(self.starts, start) - 1
            first, end = self.starts[window], min(stop, self.starts[window + 1])
            parts.append(self.rows_of_window(window)[start - first : end - first])
            start = end
        return torch.cat(parts)

    def shuffled(self, window: int) -> Tensor:
        """Return the rows of a window of shards in their order."""
        starts = self.split.starts
        parts = [
            self.split.rows[starts[place] : starts[place + 1]] for place in self.windows[window]
        ]
        rows = torch.cat(parts)
        if self.seed is None:
            return rows
        generator = keyed(self.seed, self.epoch, window, WITHIN)
        return rows[torch.randperm(len(rows), generator=generator)]

    def following(self, shards: list[int]) -> list[int]:
        """Return the shards of the window after the last one that has some of the shards."""
        after = max((self.window_of[shard] for shard in shards), default=-1) + 1
        if after >= len(self.windows):
            return []
        return [self.split.numbers[place] for place in self.windows[after]]


class WholeOrder:
    """An order of rows (n,) that may need any shard at any time."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def __getitem__(self, positions: slice) -> Tensor:
        """Return the rows at some positions of the epoch."""
        return self.rows[positions]

    def following(self, shards: list[int]) -> list[int]:
        """Return no shards: all are open that were needed before."""
        return []
