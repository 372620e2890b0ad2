"""Noise of training, and of evaluations: there a sample gets the same noise whatever the size of
its batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

BLOCK_ROWS = 64  # samples that are drawn for at once
Draw: TypeAlias = Callable[
    [Sequence[int]], Tensor
]  # of a shape (B, ...), on the generator's device


def normal(generator: torch.Generator) -> Draw:
    """Return what draws from a standard normal distribution."""
    return partial(torch.randn, generator=generator, device=generator.device)


def uniform(generator: torch.Generator) -> Draw:
    """Return what draws numbers that are uniform in 0..1."""
    return partial(torch.rand, generator=generator, device=generator.device)


class InBlocks:
    """Draws for `BLOCK_ROWS` samples at once and hands that out row by row, all of one shape.

    A generator gives other numbers where a batch is drawn in two calls, so evaluations with other
    batch sizes would see other noise.
    """

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.left: Tensor | None = None  # rows that are not used yet

    def __call__(self, shape: Sequence[int]) -> Tensor:
        """Return numbers of `shape` (B, ...)."""
        count = shape[0]
        rows = [] if self.left is None else [self.left]
        have = sum(map(len, rows))
        for _ in range(-(-max(0, count - have) // BLOCK_ROWS)):
            rows.append(self.draw((BLOCK_ROWS, *shape[1:])))
        drawn = torch.cat(rows)
        self.left = drawn[count:]
        return drawn[:count]
