"""Strings of digits to be turned around: made up, no file; what a model must remember grows with the length."""

from __future__ import annotations

from typing import Annotated

import torch

from dltrain.data.text.corpus import Corpus
from dltrain.data.text.translation import Aligned
from dltrain.rng import keyed
from dltrain.types import Ge, Gt, PositiveInt

DIGITS = 10


class Reversal:
    """`train_samples`, `val_samples` and `test_samples` different strings of 1 to `longest` digits, and the same from their
    end to their beginning. Every length is as frequent as the others, the shortest as there are strings of them. No string
    is in two parts; they are a function of `draw_seed`. ValueError for more strings than can differ."""

    named = True

    def __init__(
        self,
        longest: Annotated[int, Gt(2)] = 12,
        train_samples: PositiveInt = 20_000,
        val_samples: Annotated[int, Ge(1)] = 500,
        test_samples: Annotated[int, Ge(1)] = 1000,
        draw_seed: int = 0,
    ) -> None:
        self.longest, self.draw_seed = longest, draw_seed
        self.counts = {"train": train_samples, "val": val_samples, "test": test_samples}
        self.samples = (train_samples, test_samples)
        if (wanted := sum(self.counts.values())) > self.possible // 2:
            raise ValueError(
                f"{wanted:,} strings of up to {longest} digits cannot differ: fewer samples, or a greater longest"
            )

    @property
    def possible(self) -> int:
        return sum(DIGITS**length for length in range(1, self.longest + 1))

    def read(self) -> dict[str, Aligned]:
        texts = self.strings(sum(self.counts.values()))
        found, at = {}, 0
        for part, count in self.counts.items():
            some = texts[at : at + count]
            found[part] = Corpus.of(some), Corpus.of(text[::-1] for text in some)
            at += count
        return found

    def strings(self, count: int) -> list[bytes]:
        """So many different strings, in no order."""
        generator = keyed(self.draw_seed)
        drawn: dict[bytes, None] = {}  # in the order in which they were first drawn
        while len(drawn) < count:
            lengths = torch.randint(1, self.longest + 1, (count,), generator=generator).tolist()
            digits = torch.randint(
                ord("0"), ord("0") + DIGITS, (count, self.longest), generator=generator
            )
            rows = digits.to(torch.uint8).numpy()
            drawn |= {rows[i, :length].tobytes(): None for i, length in enumerate(lengths)}
        return list(drawn)[:count]
