"""Mixup: training on blends of two samples."""

from __future__ import annotations

from random import Random
from typing import Any, ClassVar

import torch
from torch import Tensor

from dltrain.regularization.regularizer import Regularizer
from dltrain.types import PositiveFloat


class Mixup(Regularizer):
    """Blends every sample with another of its batch, l x + (1 - l) x' and targets likewise, l from Beta(alpha, alpha).

    Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", equation 1 and figure 1: one l a batch, partners by a
    permutation of it. The network is asked to be linear between samples; more `alpha` makes blends more even.
    """

    training_only: ClassVar[bool] = True
    normalized: ClassVar[bool] = True
    mixes_targets: ClassVar[bool] = True
    moves_pixels: ClassVar[bool] = True

    def __init__(self, alpha: PositiveFloat = 0.2) -> None:
        self.alpha = alpha

    def settings(self) -> dict[str, Any]:
        return {"dataset.transforms": [self]}

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape

    def __call__(
        self, inputs: Tensor, targets: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        share = draw_share(self.alpha, generator)
        partners = torch.randperm(len(inputs), generator=generator).to(inputs.device)
        return torch.lerp(inputs[partners], inputs, share), torch.lerp(
            targets[partners], targets, share
        )


def draw_share(alpha: float, generator: torch.Generator) -> float:
    """A number in 0..1 from Beta(alpha, alpha), as a function of `generator`."""
    return Random(int(torch.randint(2**62, (), generator=generator))).betavariate(alpha, alpha)
