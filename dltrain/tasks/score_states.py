"""States of an evaluation that stay small, however many samples are added batch by batch.

Adding a batch reads no value of it, so the host does not wait for the device.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dltrain.types.combining import first_row

FLOAT_BYTES = 4
INDEX_BYTES = 8  # of a class or the number of a row
CHUNK_BYTES = 2**26  # of kept rows
MAX_TABLE_CLASSES = 1000  # classes up to which all pairs of classes are counted in a table
MAX_PAIRS = 2**21  # pairs of classes that are counted where there are more classes: 32 MB
PENDING_PAIRS = 2**18  # pairs that are collected before they are counted
HASH_FACTORS = (-7046029254386353131, -4417276706812531889)  # odd, from 2^64 / golden ratio, xxHash
HASH_SHIFTS = (29, 32)


class SampledRows:
    """Keeps rows of a stream: all up to `max_rows` (2 or more), then a sample of at most as many.

    The sample has one row of each block of 2, 4, 8 ... consecutive rows. The choice within a block
    looks random, but depends on the rows' numbers alone: it is the same for batches of any size, in
    every evaluation, and for any number of processes that share one. The numbers start at
    `first_row`. Rows are copied into chunks of `CHUNK_BYTES`, which are used again when
    rows are dropped, so that no memory is left unused between them.
    """

    def __init__(self, max_rows: int) -> None:
        self.max_rows = max_rows
        self.level = 0  # one row of each 2^level is kept
        self.first_row = first_row()
        self.total_rows = 0
        self.num_kept = 0
        self.most_kept = 0  # rows of the chunks that were ever written
        self.chunk_rows = 0
        self.chunks: list[tuple[Tensor, ...]] = []  # columns (`chunk_rows`, ...) each

    @property
    def is_complete(self) -> bool:
        """True while every row is kept."""
        return self.level == 0

    def parts(self, index: int) -> list[Tensor]:
        """Return a column (R, ...) of all kept rows in parts, in the order of the stream."""
        return [
            chunk[index][: self.num_kept - first]
            for first, chunk in zip(self._chunk_starts(), self.chunks, strict=True)
            if first < self.num_kept
        ]

    def column(self, index: int) -> Tensor:
        """Return a column (R, ...) of all kept rows; there must be some."""
        return torch.cat(self.parts(index))

    def keep(self, *columns: Tensor) -> None:
        """Add the next rows of the stream as columns (B, ...); those of the sample are kept."""
        first = self.next_row
        last = first + len(columns[0])
        self._thin_out(max(self.level, level_of(self.first_row, last, self.max_rows)))
        self.total_rows += len(columns[0])
        numbers = chosen_rows(first, last, self.level)
        if len(numbers) < len(columns[0]):
            columns = tuple(picked(column, numbers - first) for column in columns)
        self._append(columns)

    @property
    def next_row(self) -> int:
        """The number of the row that is added next."""
        return self.first_row + self.total_rows

    def state_dict(self) -> dict[str, Any]:
        """Return the kept rows, and which rows of the stream there were."""
        columns: list[Tensor] = []
        if self.num_kept:
            columns = [self.column(index) for index in range(len(self.chunks[0]))]
        return {
            "columns": columns,
            "level": self.level,
            "first_row": self.first_row,
            "total_rows": self.total_rows,
        }

    def merge(self, state: dict[str, Any]) -> None:
        """Add the rows of another process, which follow those of this one in the stream."""
        first = self.next_row
        last = first + state["total_rows"]
        assert state["first_row"] == first
        level = max(self.level, state["level"], level_of(self.first_row, last, self.max_rows))
        self._thin_out(level)
        self.total_rows += state["total_rows"]
        places = places_of_level(first, last, state["level"], level)
        if len(places):
            self._append(tuple(picked(column, places) for column in state["columns"]))

    def bytes(self) -> int:
        """Return the memory that was ever written."""
        return self.most_kept * sum(
            row_bytes(column) for chunk in self.chunks[:1] for column in chunk
        )

    def _chunk_starts(self) -> range:
        return range(0, len(self.chunks) * self.chunk_rows, self.chunk_rows or 1)

    def _append(self, columns: tuple[Tensor, ...]) -> None:
        """Copy rows, as columns (R, ...), behind those that are kept."""
        done = 0
        while done < len(columns[0]):
            if self.num_kept == len(self.chunks) * self.chunk_rows:
                self._add_chunk(columns)
            number, start = divmod(self.num_kept, self.chunk_rows)
            size = min(self.chunk_rows - start, len(columns[0]) - done)
            for chunk, column in zip(self.chunks[number], columns, strict=True):
                chunk[start : start + size].copy_(column[done : done + size])
            done += size
            self.num_kept += size
        self.most_kept = max(self.most_kept, self.num_kept)

    def _add_chunk(self, columns: tuple[Tensor, ...]) -> None:
        """Add an empty chunk for rows like those of some columns (R, ...)."""
        if not self.chunks:
            fitting = CHUNK_BYTES // max(row_bytes(column) for column in columns)
            self.chunk_rows = max(1, min(self.max_rows, fitting))
        shapes = [(self.chunk_rows, *column.shape[1:]) for column in columns]
        empty = [column.new_empty(shape) for column, shape in zip(columns, shapes, strict=True)]
        self.chunks.append(tuple(empty))

    def _thin_out(self, level: int) -> None:
        """Keep the rows of a level alone, in the chunks that they are in."""
        if level == self.level:
            return
        places = places_of_level(self.first_row, self.next_row, self.level, level)
        self.level = level
        starts = self._chunk_starts()
        columns_of = self.chunks
        self.num_kept = 0
        for start, columns in zip(starts, columns_of, strict=True):
            is_here = (places >= start) & (places < start + self.chunk_rows)
            rows = places[is_here] - start
            # A row never moves back, so those that are overwritten are copied already.
            self._append(tuple(picked(column, rows) for column in columns))


def level_of(first: int, last: int, max_rows: int) -> int:
    """Return the lowest l with at most `max_rows` blocks of 2^l rows from `first` to `last` - 1."""
    level = 0
    while num_blocks(first, last, level) > max_rows:
        level += 1
    return level


def num_blocks(first: int, last: int, level: int) -> int:
    """Return the number of blocks of 2^`level` rows that have a row from `first` to `last` - 1."""
    return -(-last // 2**level) - first // 2**level


def chosen_rows(first: int, last: int, level: int) -> Tensor:
    """Return the numbers (R,) of the rows from `first` to `last` - 1 that are kept at a level.

    At level l it is one of each 2^l rows, the one that a walk down a binary tree finds whose turns
    are a hash of the branch. So the rows of a level are among those of the level below.
    """
    blocks = torch.arange(first >> level, ((last - 1) >> level) + 1)
    for depth in range(level, 0, -1):
        blocks = 2 * blocks + hashed_bits(blocks, depth)
    return blocks[(blocks >= first) & (blocks < last)]


def places_of_level(first: int, last: int, old_level: int, level: int) -> Tensor:
    """Return the places (R,) of the rows of a level among those of a lower one, `old_level`."""
    old_rows = chosen_rows(first, last, old_level)
    return torch.searchsorted(old_rows, chosen_rows(first, last, level))


def hashed_bits(numbers: Tensor, key: int) -> Tensor:
    """Return 0 or 1 for each number (R,), a hash of the number and of `key`."""
    mixed = 64 * numbers + key
    for factor, shift in zip(HASH_FACTORS, HASH_SHIFTS, strict=True):
        mixed = mixed * factor
        mixed = mixed ^ (mixed >> shift)
    return mixed & 1


def row_bytes(column: Tensor) -> int:
    """Return the memory of a row of a column (B, ...)."""
    return column[:1].numel() * column.element_size()


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
        self.pending = torch.zeros(0, dtype=torch.int64)  # codes that are not counted yet: the
        self.num_pending = 0  # first of (`PENDING_PAIRS`,)
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
        for part in codes.split(PENDING_PAIRS):
            self._add_pending(part)

    def _begin(self, device: torch.device) -> None:
        """Make the counts on the device of the first batch."""
        self.per_class = torch.zeros(3, self.num_classes, dtype=torch.int64, device=device)
        if self.has_table:
            self.table = torch.zeros(self.num_classes**2, dtype=torch.int64, device=device)
        else:
            self.pending = torch.zeros(PENDING_PAIRS, dtype=torch.int64, device=device)

    def _add_pending(self, codes: Tensor) -> None:
        """Add codes (B,) to those that are not counted yet."""
        if self.num_pending + len(codes) > PENDING_PAIRS:
            self._count_pending()
        self.pending[self.num_pending : self.num_pending + len(codes)] = codes
        self.num_pending += len(codes)

    def _count_pending(self) -> None:
        """Count the pending pairs; this waits for the device, once in `PENDING_PAIRS` samples."""
        pending = self.pending[: self.num_pending].cpu()
        self.num_pending = 0
        self._add_counts(*pending.unique(return_counts=True))

    def _add_counts(self, new_codes: Tensor, new_counts: Tensor) -> None:
        """Add codes (P,) of pairs in ascending order, and their counts (P,)."""
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
        return per_class + 2 * INDEX_BYTES * pairs + INDEX_BYTES * PENDING_PAIRS

    def state_dict(self) -> dict[str, Any]:
        """Return the counts."""
        if not self.has_table:
            self._count_pending()
        return {
            "per_class": self.per_class,
            "table": self.table,
            "codes": self.codes,
            "counts": self.counts,
            "lost_samples": self.lost_samples,
        }

    def merge(self, state: dict[str, Any]) -> None:
        """Add the counts of other samples; this must have some too."""
        self.per_class += state["per_class"]
        if self.has_table:
            self.table += state["table"]
            return
        self._count_pending()
        self._add_counts(state["codes"], state["counts"])
        self.lost_samples += state["lost_samples"]

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
        tensors = [self.per_class, self.table, self.codes, self.counts, self.pending]
        return sum(tensor.nbytes for tensor in tensors)
