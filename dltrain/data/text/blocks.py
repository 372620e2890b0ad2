"""Splits of running text, cut into blocks of consecutive tokens.

Legend of the shapes: N tokens of the text, B blocks of a batch, T tokens of a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from dltrain.rng import keyed
from dltrain.types import PAD

EVALUATION_PLACES = 64  # in which a streamed text is read at once, whatever the batch size
NO_DOCUMENT = -1  # the document of padding
Batch = tuple[Tensor, Tensor, Tensor]
"""Tokens (B, T), the token after each (B, T), and the rows (B,) that begin without a state."""


class Stateless:
    """A split without a state: a batch is a function of (seed, epoch, position)."""

    def state_dict(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load nothing."""


class Blocks(Stateless):
    """Blocks of `length` tokens of a text (N,), each read without what comes before it.

    With a seed an epoch cuts the text from a random place on and takes the blocks in random order;
    without one it takes them as they come.
    """

    def __init__(self, tokens: Tensor, length: int, batch_size: int, seed: int | None) -> None:
        self.tokens, self.length = tokens, length
        self.batch_size, self.seed = batch_size, seed
        self.samples = count_blocks(len(tokens), length, seed)

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from batch `start` on."""
        starts = self.order(number).to(self.tokens.device, non_blocking=True)
        for position in range(start, len(self)):
            batch_starts = starts[position * self.batch_size : (position + 1) * self.batch_size]
            yield batch_of(self.tokens, batch_starts, self.length, begins=True)

    def order(self, number: int) -> Tensor:
        """Return the place where each block of an epoch begins, in its order."""
        places = torch.arange(self.samples) * self.length
        if self.seed is None:
            return places
        generator = keyed(self.seed, number)
        shift = torch.randint(self.length, (), generator=generator)
        return (shift + places)[torch.randperm(self.samples, generator=generator)]


class StreamedBlocks(Stateless):
    """Blocks of a text (N,) for training a network that carries its state to the next batch.

    The text is read in B places at once, from a random place on; a batch continues where the one
    before it ended.
    """

    def __init__(self, tokens: Tensor, length: int, batch_size: int, seed: int) -> None:
        self.tokens, self.length, self.seed = tokens, length, seed
        self.blocks = count_blocks(len(tokens), length, seed)
        self.batch_size = min(batch_size, self.blocks)
        self.samples = len(self) * self.batch_size

    def __len__(self) -> int:
        return self.blocks // max(1, self.batch_size)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from batch `start` on."""
        starts = self.order(number).to(self.tokens.device, non_blocking=True)
        for position in range(start, len(self)):
            batch_starts = starts[position * self.batch_size : (position + 1) * self.batch_size]
            yield batch_of(self.tokens, batch_starts, self.length, begins=position == 0)

    def order(self, number: int) -> Tensor:
        """Return the place where each block of an epoch begins, in its order."""
        shift = torch.randint(self.length, (), generator=keyed(self.seed, number))
        places = shift + torch.arange(self.samples) * self.length
        return places.view(self.batch_size, -1).T.flatten()


class EvaluationStreams(Stateless):
    """Blocks of a text (N,) for evaluating a network that carries its state to the next batch.

    The text is read in `EVALUATION_PLACES` places at once, of which a batch has as many as fit into
    it, so the scores do not depend on the batch size. A place is read to its end before the next
    ones are begun, and no block is left out. A batch has the same places as the one before it, or
    the first of them.
    """

    def __init__(self, tokens: Tensor, length: int, batch_size: int) -> None:
        self.tokens, self.length = tokens, length
        self.samples = count_blocks(len(tokens), length, seed=None)
        self.places = min(EVALUATION_PLACES, self.samples)
        self.batch_size = max(1, min(batch_size, self.places))

    def __len__(self) -> int:
        return sum(1 for _ in self.numbers())

    def numbers(self) -> Iterator[tuple[int, Tensor]]:
        """Yield the blocks (B,) of each batch, and their distance from the begin of the places."""
        if not self.samples:
            return
        shortest, longer = divmod(self.samples, self.places)
        places = torch.arange(self.places)
        begins = places * shortest + places.clamp(max=longer)
        sizes = shortest + (places < longer).long()
        for first in range(0, self.places, self.batch_size):
            group_begins = begins[first : first + self.batch_size]
            group_sizes = sizes[first : first + self.batch_size]
            for position in range(int(group_sizes.max())):
                yield position, group_begins[group_sizes > position] + position

    def order(self, number: int) -> Tensor:
        """Return the place where each block begins, in the order of the batches."""
        blocks = [numbers for _, numbers in self.numbers()]
        return self.length * torch.cat([torch.arange(0), *blocks])

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches from batch `start` on."""
        for position, numbers in islice(self.numbers(), start, None):
            starts = (numbers * self.length).to(self.tokens.device, non_blocking=True)
            yield batch_of(self.tokens, starts, self.length, begins=position == 0)


def count_blocks(num_tokens: int, length: int, seed: int | None) -> int:
    """Return the number of blocks in a text; with a seed they may begin at any of `length` places.

    Each block has a token after it.
    """
    reserved = 1 if seed is None else length
    return max(0, (num_tokens - reserved) // length)


def batch_of(tokens: Tensor, starts: Tensor, length: int, begins: bool) -> Batch:
    """Return the blocks of a text (N,) that begin at the places `starts` (B,)."""
    steps = torch.arange(length + 1, device=tokens.device)
    rows = tokens[starts.unsqueeze(1) + steps].long()
    row_begins = torch.full((len(rows),), begins, device=tokens.device)
    return rows[:, :-1], rows[:, 1:], row_begins


class WordBlocks(Stateless):
    """Blocks (words (B,) int64, documents (B,) int64) of `batch_size` consecutive words.

    In each epoch a word w stays with probability `keep`[w], a function of (seed, epoch). The words
    beside one that was left out come closer together, as in word2vec. So epochs differ a little in
    length, and `len` is the expected number. The last block is padded with `PAD` and
    `NO_DOCUMENT`.

    Args:
        words: The words of the text (N,).
        documents: The number of the document of each (N,).
        keep: The probability of each word of the vocabulary (V,).
        batch_size: Words a block.
        seed: The seed of the epochs.
    """

    whole_batches = True  # a word's neighbors are in the same block

    def __init__(
        self, words: Tensor, documents: Tensor, keep: Tensor, batch_size: int, seed: int
    ) -> None:
        self.words, self.documents = words, documents
        self.keep, self.batch_size = keep, batch_size
        self.seed = seed
        self.samples = len(words)
        self.expected_words = 0.0
        if len(words):
            counts = torch.bincount(words, minlength=len(keep))
            self.expected_words = float(counts.double() @ keep.double())

    def __len__(self) -> int:
        return -(-int(self.expected_words) // self.batch_size)

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the blocks of an epoch from block `start` on."""
        draws = torch.rand(self.samples, generator=keyed(self.seed, number))
        stays = draws < self.keep[self.words]
        if not stays.any():  # few words: keep all, so that there is something to learn from
            stays = torch.ones_like(stays)
        words, documents = self.words[stays], self.documents[stays]
        for first in range(start * self.batch_size, len(words), self.batch_size):
            block_words = words[first : first + self.batch_size].long()
            block_documents = documents[first : first + self.batch_size].long()
            missing = (0, self.batch_size - len(block_words))
            yield (
                nn.functional.pad(block_words, missing, value=PAD),
                nn.functional.pad(block_documents, missing, value=NO_DOCUMENT),
            )


def keep_probabilities(counts: Tensor, sample: float) -> Tensor:
    """Return the probability (V,) of each word to stay in an epoch, from its count (V,).

    A word of the share f of the text stays with probability sqrt(sample / f) + sample / f, at most
    1. This is what the code of Mikolov et al. 2013 ("Distributed Representations of Words and
    Phrases") does; their equation 5 lacks the second term. A `sample` of 0 keeps all words.
    """
    if not sample:
        return torch.ones(len(counts))
    ratio = sample * counts.sum() / counts.clamp(min=1)  # sample / f
    return (ratio.sqrt() + ratio).clamp(max=1).float()
