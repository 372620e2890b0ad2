"""Random noise; in an evaluation a sample's noise does not depend on the size of its batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from dltrain.types.rows import random_rows

BLOCK_ROWS = 64  # samples that noise is drawn for in one call
Draw: TypeAlias = Callable[[Sequence[int]], Tensor]
"""Draws noise of a shape (B, ...), on the device of its generator."""


def normal(generator: torch.Generator) -> Draw:
    """Return a function that draws from the standard normal distribution."""
    draw = partial(torch.randn, generator=generator, device=generator.device)
    return partial(random_rows, draw)


def uniform(generator: torch.Generator) -> Draw:
    """Return a function that draws uniform numbers in 0..1."""
    draw = partial(torch.rand, generator=generator, device=generator.device)
    return partial(random_rows, draw)


class InBlocks:
    """Draws noise for `BLOCK_ROWS` samples at once and hands it out row by row, all of one shape.

    A generator gives other numbers where a batch is drawn in two calls, so without blocks an
    evaluation with another batch size would see other noise.
    """

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.unused: Tensor | None = None

    def __call__(self, shape: Sequence[int]) -> Tensor:
        """Return noise of `shape` (B, ...)."""
        count = shape[0]
        blocks = [] if self.unused is None else [self.unused]
        missing = max(0, count - sum(map(len, blocks)))
        for _ in range(-(-missing // BLOCK_ROWS)):
            blocks.append(self.draw((BLOCK_ROWS, *shape[1:])))
        rows = torch.cat(blocks)
        self.unused = rows[count:]
        return rows[:count]
