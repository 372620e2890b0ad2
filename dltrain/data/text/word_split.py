"""One split of running text, thinned of frequent words and cut into blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dltrain.rng import keyed
from dltrain.types import PAD

NO_DOCUMENT = -1  # of what fills a block up


class WordSplit:
    """Blocks (words (N,) int64, documents (N,) int64) of consecutive words; the last is filled up with `PAD`.

    Of each epoch a word w stays with probability `kept`[w], a function of (seed, epoch); the words beside one that went
    come closer together, as in word2vec. So epochs differ a little in length: `len` is what is to be expected.
    """

    def __init__(
        self, words: Tensor, documents: Tensor, kept: Tensor, batch_size: int, seed: int
    ) -> None:
        self.words, self.documents, self.kept, self.batch_size, self.seed = (
            words,
            documents,
            kept,
            batch_size,
            seed,
        )
        self.samples = len(words)
        self.expected = (
            float(torch.bincount(words, minlength=len(kept)).double() @ kept.double())
            if len(words)
            else 0.0
        )

    def __len__(self) -> int:
        return -(-int(self.expected) // self.batch_size)

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        stays = torch.rand(self.samples, generator=keyed(self.seed, number)) < self.kept[self.words]
        if (
            not stays.any()
        ):  # of a few words: better all than nothing to learn from, or to evaluate on
            stays = torch.ones_like(stays)
        words, documents = self.words[stays], self.documents[stays]
        for first in range(start * self.batch_size, len(words), self.batch_size):
            block = (
                words[first : first + self.batch_size].long(),
                documents[first : first + self.batch_size].long(),
            )
            missing = (0, self.batch_size - len(block[0]))
            yield (
                torch.nn.functional.pad(block[0], missing, value=PAD),
                torch.nn.functional.pad(block[1], missing, value=NO_DOCUMENT),
            )

    def state_dict(self) -> dict[str, Any]:
        return {}  # a batch is a function of (seed, epoch, position)

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def staying(counts: Tensor, sample: float) -> Tensor:
    """The probability of each word to stay in an epoch."""
    if not sample:
        return torch.ones(len(counts))
    rarity = sample * counts.sum() / counts.clamp(min=1)
    return (rarity.sqrt() + rarity).clamp(max=1).float()
