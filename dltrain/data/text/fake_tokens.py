"""Random sequences of tokens of any described vocabulary, without a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dltrain.data.dataset import PARTS, Part
from dltrain.data.fake import MAX_CLASSES, FakeDataset
from dltrain.data.text.tokens import NUM_ENDS, Batching, Ragged, TokenSplit
from dltrain.rng import keyed
from dltrain.types import BEGIN, END, BatchSize, Spec

MAX_TOKENS = 256  # of a text


@dataclass(frozen=True)
class FakeTexts:
    """Random texts of all three splits, and their classes (N,) or target texts."""

    texts: Ragged
    targets: Tensor | Ragged

    def size_in_bytes(self) -> int:
        """Return the memory that the texts occupy."""
        return self.texts.size_in_bytes()

    def fingerprint(self) -> str:
        """Return the name that all fake data has."""
        return "fake"


class FakeTokens(FakeDataset[FakeTexts, TokenSplit]):
    """Random texts as `spec` describes them, for `check` and `debug=smoke`.

    Their lengths differ; the longest are as long as they may be, up to `MAX_TOKENS` tokens.
    """

    @property
    def spec(self) -> Spec:
        """The described shape; tokens without a vocabulary are decoded to their numbers."""
        return replace(
            self.described,
            train_samples=self.count,
            test_samples=self.count,
            decode=self.described.decode or token_numbers,
            decode_target=self.described.decode_target or token_numbers,
        )

    def read(self) -> FakeTexts:
        """Draw the texts and targets of every split."""
        spec, total = self.described, 3 * self.count
        generator = keyed(self.seed)
        longest = min(spec.input_shape[0], MAX_TOKENS)
        texts = random_texts(total, 1, longest, spec.vocab_size, generator)
        if not spec.target_vocab_size:
            num_classes = max(1, min(spec.num_classes, MAX_CLASSES))
            return FakeTexts(texts, torch.arange(total) % num_classes)
        longest = min(spec.target_length, MAX_TOKENS)
        targets = random_texts(total, 1 + NUM_ENDS, longest, spec.target_vocab_size, generator)
        targets.flat[targets.starts] = BEGIN
        targets.flat[targets.starts + targets.lengths - 1] = END
        return FakeTexts(texts, targets)

    def make_split(self, part: Part, batch_size: BatchSize, seed: int | None) -> TokenSplit:
        """Return the batches of one third of the texts."""
        content = self.stored
        first = self.count * PARTS.index(part)
        rows = torch.arange(first, first + self.count)
        batching = Batching(rows, content.texts.lengths, batch_size, seed)
        return TokenSplit(content.texts.to(self.device), content.targets.to(self.device), batching)

    def count_classes(self) -> tuple[int, ...]:
        """Return the number of training texts of each class."""
        return self.train.class_counts(self.spec.num_classes)


def random_texts(
    count: int, shortest: int, longest: int, vocab_size: int, generator: torch.Generator
) -> Ragged:
    """Draw texts of `shortest` to `longest` tokens, none of them special if the vocabulary allows.

    A few of them are as long as they may be.
    """
    longest = max(shortest, longest)
    lengths = torch.randint(shortest, longest + 1, (count,), generator=generator)
    lengths[:: max(1, count // 3)] = longest
    first_token = min(END + 1, vocab_size - 1)
    total = int(lengths.sum())
    flat = torch.randint(first_token, vocab_size, (total,), generator=generator)
    return Ragged(flat.int(), lengths.cumsum(0) - lengths, lengths)


def token_numbers(tokens: Sequence[int]) -> str:
    """Return token numbers as text."""
    return " ".join(map(str, tokens))
