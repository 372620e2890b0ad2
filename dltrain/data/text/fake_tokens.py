"""Random sequences of tokens of any described vocabulary, without a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dltrain.data.fake import MAX_CLASSES, fake_batch_size, fake_samples
from dltrain.data.text.tokens import Batching, Ragged, TokenSplit
from dltrain.rng import keyed
from dltrain.types import BEGIN, END, BatchSize, Sample, Spec

LONGEST = 256  # tokens of a text


class FakeTokens:
    """What `check` and `debug=smoke` run on instead of the texts that `spec` describes: of different lengths, the longest as
    long as they may be, up to `LONGEST` tokens."""

    def __init__(self, spec: Spec, batch_size: BatchSize, seed: int) -> None:
        self.size = fake_batch_size(batch_size)
        count = fake_samples(self.size, spec.num_classes)
        decode, decode_target = spec.decode or shown, spec.decode_target or shown
        self.spec = replace(
            spec,
            train_samples=count,
            test_samples=count,
            decode=decode,
            decode_target=decode_target,
        )
        self.seed, self.device = seed, torch.device("cpu")
        generator = keyed(seed)
        self.texts = ragged(
            3 * count, min(spec.input_shape[0], LONGEST), spec.vocab_size, generator
        )
        self.targets: Tensor | Ragged = torch.arange(3 * count) % max(
            1, min(spec.num_classes, MAX_CLASSES)
        )
        if spec.target_vocab_size:
            longest = min(spec.target_length, LONGEST)
            self.targets = ragged(3 * count, longest, spec.target_vocab_size, generator, ends=True)
        self.rows = torch.arange(3 * count).split(count)

    def split(self, part: int, seed: int | None) -> TokenSplit:
        batching = Batching(self.rows[part], self.texts.lengths, self.size, seed)
        return TokenSplit(self.texts.to(self.device), self.targets.to(self.device), batching)

    @property
    def train(self) -> TokenSplit:
        return self.split(0, self.seed)

    @property
    def val(self) -> TokenSplit:
        return self.split(1, None)

    @property
    def test(self) -> TokenSplit:
        return self.split(2, None)

    @property
    def class_counts(self) -> tuple[int, ...]:
        return self.train.class_counts(self.spec.num_classes)

    def fake(self) -> FakeTokens:
        return self

    def to(self, device: torch.device) -> None:
        self.device = device

    def size_in_bytes(self) -> int:
        return self.texts.size_in_bytes()

    def fingerprint(self) -> str:
        return "fake"

    def description(self) -> dict[str, Any]:
        return {}

    def restore(self, description: dict[str, Any]) -> None: ...

    def encode(self, paths: Sequence[Path]) -> Iterator[Sample]:
        return iter(())


def ragged(
    count: int, longest: int, vocab_size: int, generator: torch.Generator, ends: bool = False
) -> Ragged:
    """Random sequences of 1 to `longest` tokens, with `ends` between the tokens for a text's two ends."""
    lengths = torch.randint(
        1 + 2 * ends, max(2 + 2 * ends, longest + 1), (count,), generator=generator
    )
    lengths[:: max(1, count // 3)] = max(1 + 2 * ends, longest)
    flat = torch.randint(
        min(END + 1, vocab_size - 1), vocab_size, (int(lengths.sum()),), generator=generator
    )
    starts = lengths.cumsum(0) - lengths
    if ends:
        flat[starts], flat[starts + lengths - 1] = BEGIN, END
    return Ragged(flat.int(), starts, lengths)


def shown(tokens: Sequence[int]) -> str:
    return " ".join(map(str, tokens))
