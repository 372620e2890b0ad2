"""Texts as token numbers: sequences of different lengths in one row, and batches of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dltrain.data.split import balanced_positions, batch_count
from dltrain.rng import keyed
from dltrain.types import BEGIN, END, PAD, BatchSize

POOL_BATCHES = 100  # batches whose texts are sorted by length together
LENGTH_STEP = 8  # tokens: lengths are rounded up to multiples for `tokens_per_batch`
NUM_ENDS = 2  # tokens that mark the begin and the end of a text
Keep: TypeAlias = Literal["head", "tail"]
"""The part of a long text that is kept."""


@dataclass(frozen=True)
class Ragged:
    """N sequences of different lengths, of int32 numbers.

    Sequence i is `flat[starts[i] : starts[i] + lengths[i]]`; `starts` and `lengths` are (N,). They
    stay on the CPU, where they decide the shapes of batches, while `flat` may be on a device.
    """

    flat: Tensor
    starts: Tensor
    lengths: Tensor

    @classmethod
    def from_arrays(cls, flat: NDArray[np.int32], offsets: NDArray[np.int64]) -> Ragged:
        """Make sequences of a row of numbers and the places (N + 1,) where each begins."""
        places = torch.from_numpy(np.ascontiguousarray(offsets, dtype=np.int64))
        return cls(torch.from_numpy(np.ascontiguousarray(flat)), places[:-1], places.diff())

    def __len__(self) -> int:
        return len(self.lengths)

    def cut(self, max_length: int | None, keep: Keep) -> Ragged:
        """Cut sequences to `max_length` numbers, in memory of their own; None cuts nothing."""
        if max_length is None or not len(self) or int(self.lengths.max()) <= max_length:
            return self
        lengths = self.lengths.clamp(max=max_length)
        starts = self.starts
        if keep == "tail":
            starts = starts + self.lengths - lengths
        new_starts = lengths.cumsum(0) - lengths
        places = torch.repeat_interleave(starts - new_starts, lengths)
        places += torch.arange(int(lengths.sum()))
        return Ragged(self.flat[places], new_starts, lengths)

    def gather(self, rows: Tensor) -> Tensor:
        """Return the sequences `rows` (B,) as int64 numbers (B, T), padded with `PAD`.

        The rows are on the CPU; the result is where the numbers are.
        """
        lengths, starts = self.lengths[rows], self.starts[rows]
        longest = int(lengths.max())
        flat = self.flat
        if int(starts.max()) + longest > len(flat):
            flat = nn.functional.pad(flat, (0, longest))
        lengths = lengths.to(flat.device, non_blocking=True)
        starts = starts.to(flat.device, non_blocking=True)
        # Windows of the longest length: whole rows are copied.
        block = flat.unfold(0, longest, 1)[starts].long()
        is_padding = torch.arange(longest, device=flat.device) >= lengths.unsqueeze(1)
        return block.masked_fill_(is_padding, PAD)

    def between_ends(self) -> Ragged:
        """Put each sequence between the tokens that mark the begin and the end of a text."""
        lengths = self.lengths + NUM_ENDS
        starts = lengths.cumsum(0) - lengths
        flat = torch.empty(int(lengths.sum()), dtype=self.flat.dtype)
        flat[starts] = BEGIN
        flat[starts + lengths - 1] = END
        numbers = torch.arange(int(self.lengths.sum()))
        before = self.lengths.cumsum(0) - self.lengths  # numbers of the sequences before each
        sources = numbers + torch.repeat_interleave(self.starts - before, self.lengths)
        targets = numbers + torch.repeat_interleave(starts + 1 - before, self.lengths)
        flat[targets] = self.flat[sources]
        return Ragged(flat, starts, lengths)

    def to(self, device: torch.device) -> Ragged:
        """Return the sequences with their numbers on a device."""
        return Ragged(self.flat.to(device), self.starts, self.lengths)

    def size_in_bytes(self) -> int:
        """Return the memory that the sequences occupy."""
        return sum(t.numel() * t.element_size() for t in (self.flat, self.starts, self.lengths))


def joined(parts: Sequence[Ragged]) -> Ragged:
    """Return the sequences of all `parts`, one after the other."""
    ends = torch.tensor([0, *(len(part.flat) for part in parts)]).cumsum(0)
    starts = [part.starts + end for part, end in zip(parts, ends[:-1], strict=True)]
    return Ragged(
        torch.cat([part.flat for part in parts]),
        torch.cat(starts),
        torch.cat([part.lengths for part in parts]),
    )


class Batching:
    """Decides which sequences make a batch, in each epoch.

    The order is a function of (seed, epoch). Without a seed sequences come by length, or as stored
    without bucketing.

    Args:
        rows: The sequences of the split.
        lengths: The lengths of all sequences (N,).
        batch_size: Sequences a batch.
        seed: The seed of the order; None for an evaluation.
        bucketing: Whether sequences of about the same length make a batch, so that little of it is
            padding: `POOL_BATCHES` batches of random sequences are sorted by length.
        tokens_per_batch: Tokens a batch, padding included, instead of `batch_size` sequences. A
            batch has at least one sequence, and every epoch has the same number of batches.
        classes: The classes of all sequences (N,): an epoch then draws each class equally often,
            with replacement.
    """

    def __init__(
        self,
        rows: Tensor,
        lengths: Tensor,
        batch_size: BatchSize,
        seed: int | None,
        bucketing: bool = True,
        tokens_per_batch: int | None = None,
        classes: Tensor | None = None,
    ) -> None:
        self.classes = None if classes is None else classes[rows].cpu()
        self.rows, self.lengths = rows, lengths[rows].cpu()
        self.seed = seed
        self.bucketing = bucketing or tokens_per_batch is not None
        self.by_tokens = tokens_per_batch is not None
        self.batch_size = max(1, len(rows)) if batch_size == "all" else batch_size
        if tokens_per_batch is None:
            self.sizes = equal_sizes(len(rows), self.batch_size, training=seed is not None)
        else:
            ascending = self.rounded_lengths.sort().values
            self.sizes = sizes_by_tokens(ascending, tokens_per_batch)

    @property
    def rounded_lengths(self) -> Tensor:
        """The lengths of the split's sequences, rounded up to a multiple of `LENGTH_STEP`."""
        return (self.lengths + LENGTH_STEP - 1) // LENGTH_STEP * LENGTH_STEP

    def __len__(self) -> int:
        return len(self.sizes)

    def epoch(self, number: int) -> list[Tensor]:
        """Return the rows of each batch of an epoch."""
        if self.seed is None:
            return self._batches(self._evaluation_order())
        generator = keyed(self.seed, number)
        order = self._random_order(generator)
        if not self.bucketing:
            return self._batches(order)
        batches = self._batches(self._by_length(order))
        shuffled = torch.randperm(len(batches), generator=generator)
        return [batches[i] for i in shuffled.tolist()]

    def _batches(self, order: Tensor) -> list[Tensor]:
        return list(self.rows[order].split(self.sizes))

    def _evaluation_order(self) -> Tensor:
        if self.bucketing:
            return self.lengths.argsort(stable=True)
        return torch.arange(len(self.rows))

    def _random_order(self, generator: torch.Generator) -> Tensor:
        if self.classes is None:
            return torch.randperm(len(self.rows), generator=generator)
        return balanced_positions(self.classes, generator)

    def _by_length(self, order: Tensor) -> Tensor:
        if self.by_tokens:
            # The sorted lengths are the same in every epoch, so the sizes of the batches are too.
            return order[self.rounded_lengths[order].argsort(stable=True)]
        pools = order.split(POOL_BATCHES * self.batch_size)
        return torch.cat([pool[self.lengths[pool].argsort(stable=True)] for pool in pools])


def equal_sizes(num_rows: int, batch_size: int, training: bool) -> list[int]:
    """Return the size of each batch; the last has what is left over."""
    count = batch_count(num_rows, batch_size, training=training)
    if not count:
        return []
    return [batch_size] * (count - 1) + [num_rows - batch_size * (count - 1)]


def sizes_by_tokens(ascending: Tensor, max_tokens: int) -> list[int]:
    """Return the number of sequences in each batch of `max_tokens` tokens, padding included.

    Args:
        ascending: The lengths of the sequences in ascending order.
        max_tokens: The number of tokens, which a single longer sequence may exceed.
    """
    sizes = []
    size = 0
    for length in ascending.tolist():
        if size and (size + 1) * length > max_tokens:
            sizes.append(size)
            size = 0
        size += 1
    if size:
        sizes.append(size)
    return sizes


class TokenSplit:
    """Batches (tokens (B, T), targets) of a split, each padded to its own longest text.

    Args:
        texts: The texts of all splits.
        targets: A tensor (N, ...) with a row for each text, or target texts, whose batches are
            padded alike.
        batching: Decides which texts make a batch.
    """

    def __init__(self, texts: Ragged, targets: Tensor | Ragged, batching: Batching) -> None:
        self.texts, self.targets = texts, targets
        self.batching = batching
        self.samples, self.batch_size = len(batching.rows), batching.batch_size

    def __len__(self) -> int:
        return len(self.batching)

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of an epoch from batch `start` on."""
        device = self.texts.flat.device
        for rows in self.batching.epoch(number)[start:]:
            inputs = self.texts.gather(rows)
            if isinstance(self.targets, Ragged):
                yield inputs, self.targets.gather(rows)
            else:
                yield inputs, self.targets[rows.to(device, non_blocking=True)]

    def order(self, number: int) -> Tensor:
        """Return the rows of an epoch, one after the other."""
        if not len(self):
            return torch.arange(0)
        return torch.cat(self.batching.epoch(number))

    def class_counts(self, num_classes: int) -> tuple[int, ...]:
        """Return the number of samples of each class."""
        assert isinstance(self.targets, Tensor)
        classes = self.targets.cpu()[self.batching.rows]
        counts: list[int] = torch.bincount(classes, minlength=num_classes).tolist()
        return tuple(counts)

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: a batch is a function of (seed, epoch, position)."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load nothing."""
