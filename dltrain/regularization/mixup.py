"""Mixup: training on mixtures of two samples."""

from __future__ import annotations

from random import Random
from typing import Any, ClassVar

import torch
from torch import Tensor

from dltrain.regularization.regularizer import Regularizer
from dltrain.types import PositiveFloat
from dltrain.types.transfers import sent


class Mixup(Regularizer):
    """Mixes every sample and target with another of its batch: l x + (1 - l) x'.

    See Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", equation 1 and figure 1. l
    is drawn from Beta(alpha, alpha) once per batch, and a permutation of the batch gives the other
    samples. The network learns to be linear between samples; a larger `alpha` mixes more evenly.
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
        ratio = draw_ratio(self.alpha, generator)
        partners = sent(torch.randperm(len(inputs), generator=generator), inputs.device)
        mixed = torch.lerp(inputs[partners], inputs, ratio)
        return mixed, torch.lerp(targets[partners], targets, ratio)


def draw_ratio(alpha: float, generator: torch.Generator) -> float:
    """Draw a number in 0..1 from Beta(alpha, alpha)."""
    seed = int(torch.randint(2**62, (), generator=generator))
    return Random(seed).betavariate(alpha, alpha)
