"""States of an evaluation that stay small, however many samples are added batch by batch.

Adding a batch reads no value of it, so the host does not wait for the device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FLOAT_BYTES = 4
INDEX_BYTES = 8  # of a class or the number of a row
MERGED_PARTS = 64  # small tensors of a list that become one
MAX_TABLE_CLASSES = 1000  # classes up to which all pairs of classes are counted in a table
MAX_PAIRS = 2**21  # pairs of classes that are counted where there are more classes: 32 MB
PENDING_PAIRS = 2**18  # pairs that are collected before they are counted
HASH_FACTORS = (-7046029254386353131, -4417276706812531889)  # odd, from 2^64 / golden ratio, xxHash
HASH_SHIFTS = (29, 32)


@dataclass(frozen=True)
class RowPart:
    """Some rows of `SampledRows`: their numbers in the stream (R,), and columns (R, ...)."""

    numbers: Tensor
    columns: tuple[Tensor, ...]


class SampledRows:
    """Keeps rows of a stream: all up to `max_rows` (2 or more), then a sample of at most as many.

    The sample has one row of each block of 2, 4, 8 ... consecutive rows. The choice within a block
    looks random, but depends on the rows' numbers alone: it is the same for batches of any size and
    in every evaluation.
    """

    def __init__(self, max_rows: int) -> None:
        self.max_rows = max_rows
        self.level = 0  # one row of each 2^level is kept
        self.total_rows = 0
        self.merged: list[RowPart] = []
        self.recent: list[RowPart] = []  # of single batches

    @property
    def is_complete(self) -> bool:
        """True while every row is kept."""
        return self.level == 0

    @property
    def parts(self) -> list[RowPart]:
        """All kept rows, in the order of the stream."""
        return [*self.merged, *self.recent]

    def column(self, index: int) -> Tensor:
        """Return a column (R, ...) of all kept rows; there must be some."""
        return torch.cat([part.columns[index] for part in self.parts])

    @property
    def num_kept(self) -> int:
        """The number of rows that are kept."""
        return sum(len(part.numbers) for part in self.parts)

    def keep(self, *columns: Tensor) -> None:
        """Add the next rows of the stream as columns (B, ...); those of the sample are kept."""
        first = self.total_rows
        self.total_rows += len(columns[0])
        self._thin_out()
        numbers = chosen_rows(first, self.total_rows, self.level)
        if len(numbers) < len(columns[0]):
            columns = tuple(picked(column, numbers - first) for column in columns)
        if len(numbers):
            self.recent.append(RowPart(numbers, columns))
        if len(self.recent) == MERGED_PARTS:
            self.merged.append(joined(self.recent))
            self.recent = []

    def bytes(self) -> int:
        """Return the memory of the kept rows."""
        tensors = [tensor for part in self.parts for tensor in (part.numbers, *part.columns)]
        return sum(tensor.nbytes for tensor in tensors)

    def _thin_out(self) -> None:
        """Drop rows until there is room for the total number of rows."""
        level = max(self.level, level_of(self.total_rows, self.max_rows))
        if level > self.level:
            self.level = level
            self.merged = [thinned(part, level) for part in self.merged]
            self.recent = [thinned(part, level) for part in self.recent]


def level_of(total_rows: int, max_rows: int) -> int:
    """Return the lowest l with at most `max_rows` blocks of 2^l rows."""
    level = 0
    while num_blocks(total_rows, level) > max_rows:
        level += 1
    return level


def num_blocks(total_rows: int, level: int) -> int:
    """Return the number of blocks of 2^`level` rows, of which the last may be incomplete."""
    return -(-total_rows // 2**level)


def num_kept_of(total_rows: int, max_rows: int) -> int:
    """Return how many of `total_rows` rows a `SampledRows` keeps, or one more."""
    return num_blocks(total_rows, level_of(total_rows, max_rows))


def chosen_rows(first: int, last: int, level: int) -> Tensor:
    """Return the numbers (R,) of the rows from `first` to `last` - 1 that are kept at a level.

    At level l it is one of each 2^l rows, the one that a walk down a binary tree finds whose turns
    are a hash of the branch. So the rows of a level are among those of the level below.
    """
    blocks = torch.arange(first >> level, ((last - 1) >> level) + 1)
    for depth in range(level, 0, -1):
        blocks = 2 * blocks + hashed_bits(blocks, depth)
    return blocks[(blocks >= first) & (blocks < last)]


def hashed_bits(numbers: Tensor, key: int) -> Tensor:
    """Return 0 or 1 for each number (R,), a hash of the number and of `key`."""
    mixed = 64 * numbers + key
    for factor, shift in zip(HASH_FACTORS, HASH_SHIFTS, strict=True):
        mixed = mixed * factor
        mixed = mixed ^ (mixed >> shift)
    return mixed & 1


def joined(parts: list[RowPart]) -> RowPart:
    """Return several parts as one."""
    numbers = torch.cat([part.numbers for part in parts])
    columns = zip(*(part.columns for part in parts), strict=True)
    return RowPart(numbers, tuple(torch.cat(column) for column in columns))


def thinned(part: RowPart, level: int) -> RowPart:
    """Return the rows of a part that are kept at a level."""
    numbers = part.numbers
    if not len(numbers):
        return part
    wanted = chosen_rows(int(numbers[0]), int(numbers[-1]) + 1, level)
    rows = torch.isin(numbers, wanted).nonzero().squeeze(1)
    return RowPart(numbers[rows], tuple(picked(column, rows) for column in part.columns))


def picked(column: Tensor, rows: Tensor) -> Tensor:
    """Return some rows (R,) of a column (B, ...) on its device."""
    return column[rows.to(column.device, non_blocking=True)]


class PairCounts:
    """Counts samples by true and predicted class.

    `per_class` (3, K) counts true classes, predicted classes and correct predictions. Pairs of true
    and predicted class are counted in a table of up to `MAX_TABLE_CLASSES` classes; with more,
    those that occur are. Of more than `MAX_PAIRS` pairs, the rarest half is dropped: `lost_samples`
    counts the samples of them.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.has_table = num_classes <= MAX_TABLE_CLASSES
        self.per_class = torch.zeros(0, dtype=torch.int64)
        self.table = torch.zeros(0, dtype=torch.int64)
        self.codes = torch.zeros(0, dtype=torch.int64)  # of pairs, true class x K + predicted class
        self.counts = torch.zeros(0, dtype=torch.int64)  # of these
        self.pending: list[Tensor] = []  # codes that are not counted yet
        self.num_pending = 0
        self.lost_samples = 0

    def add(self, targets: Tensor, predictions: Tensor) -> None:
        """Add true classes (B,) and predicted classes (B,)."""
        if not len(self.per_class):
            self._begin(targets.device)
        ones = torch.ones_like(targets)
        codes = targets * self.num_classes + predictions
        if self.has_table:
            self.table.index_add_(0, codes, ones)
            return
        true, predicted, correct = self.per_class
        true.index_add_(0, targets, ones)
        predicted.index_add_(0, predictions, ones)
        correct.index_add_(0, targets, (targets == predictions).to(ones))
        self.pending.append(codes)
        self.num_pending += len(codes)
        if self.num_pending >= PENDING_PAIRS:
            self._count_pending()
        elif len(self.pending) % MERGED_PARTS == 0:
            self._merge_pending()

    def _begin(self, device: torch.device) -> None:
        """Make the counts on the device of the first batch."""
        self.per_class = torch.zeros(3, self.num_classes, dtype=torch.int64, device=device)
        if self.has_table:
            self.table = torch.zeros(self.num_classes**2, dtype=torch.int64, device=device)

    def _merge_pending(self) -> None:
        """Join the last batches, so that the list stays short."""
        last = self.pending[-MERGED_PARTS:]
        if len(last) == MERGED_PARTS and len(last[0]) < PENDING_PAIRS // MERGED_PARTS:
            self.pending[-MERGED_PARTS:] = [torch.cat(last)]

    def _count_pending(self) -> None:
        """Count the pending pairs; this waits for the device, once in `PENDING_PAIRS` samples."""
        if not self.pending:
            return
        pending = torch.cat(self.pending).cpu()
        self.pending = []
        self.num_pending = 0
        new_codes, new_counts = pending.unique(return_counts=True)
        # A merge of two sorted lists, in which each code of the new list may be in the old one.
        codes, places = torch.cat([self.codes, new_codes]).unique(return_inverse=True)
        counts = torch.zeros(len(codes), dtype=torch.int64)
        counts.index_add_(0, places, torch.cat([self.counts, new_counts]))
        self.codes = codes
        self.counts = counts
        if len(codes) > MAX_PAIRS:
            self._drop_rarest()

    def _drop_rarest(self) -> None:
        all_samples = int(self.counts.sum())
        kept = self.counts.argsort(descending=True, stable=True)[: MAX_PAIRS // 2].sort().values
        self.codes = self.codes[kept]
        self.counts = self.counts[kept]
        self.lost_samples += all_samples - int(self.counts.sum())

    @classmethod
    def state_bytes(cls, samples: int, num_classes: int) -> int:
        """Return the most memory that the counts of some samples take."""
        per_class = 3 * INDEX_BYTES * num_classes
        if num_classes <= MAX_TABLE_CLASSES:
            return per_class + INDEX_BYTES * num_classes**2
        pairs = min(samples, MAX_PAIRS, num_classes**2)
        return per_class + 2 * INDEX_BYTES * pairs + INDEX_BYTES * min(samples, PENDING_PAIRS)

    def by_class(self) -> Tensor:
        """Return (3, K): the samples of each class, predictions of it, and correct ones."""
        if not self.has_table:
            return self.per_class.cpu()
        table = self.table.view(self.num_classes, self.num_classes).cpu()
        return torch.stack([table.sum(dim=1), table.sum(dim=0), table.diagonal()])

    def pairs(self) -> Tensor:
        """Return (P, 3): each pair of true and predicted class that is counted, and its count."""
        if self.has_table:
            counts = self.table.cpu()
            codes = counts.nonzero().squeeze(1)
            counts = counts[codes]
        else:
            self._count_pending()
            codes = self.codes
            counts = self.counts
        true = codes // self.num_classes
        return torch.stack([true, codes % self.num_classes, counts], dim=1)

    def bytes(self) -> int:
        """Return the memory of the counts."""
        tensors = [self.per_class, self.table, self.codes, self.counts, *self.pending]
        return sum(tensor.nbytes for tensor in tensors)
