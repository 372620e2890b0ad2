"""CutMix: training on images with a box from another image."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from dltrain.regularization.mixup import draw_ratio
from dltrain.regularization.regularizer import Regularizer
from dltrain.types import PositiveFloat
from dltrain.types.transfers import sent


class CutMix(Regularizer):
    """Pastes a box of another image of the batch into each image; targets are mixed by area.

    See Yun et al. 2019, "CutMix", equations 1 and 2 and algorithm A1. l is drawn from Beta(alpha,
    alpha). The box has sqrt(1 - l) of both sides and a uniform center, and is clipped at the
    border; l is then the visible fraction of the original image. There is one box per batch, and a
    permutation of the batch gives the other images.
    """

    training_only: ClassVar[bool] = True
    normalized: ClassVar[bool] = True
    mixes_targets: ClassVar[bool] = True
    moves_pixels: ClassVar[bool] = True

    def __init__(self, alpha: PositiveFloat = 1.0) -> None:
        self.alpha = alpha

    def settings(self) -> dict[str, Any]:
        return {"dataset.transforms": [self]}

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) != 3:
            raise ValueError(
                f'"regularization=[cutmix]" needs images, not inputs of shape {shape}; use mixup'
            )
        return shape

    def __call__(
        self, inputs: Tensor, targets: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        height, width = inputs.shape[2:]
        ratio = (1 - draw_ratio(self.alpha, generator)) ** 0.5
        rows = draw_range(height, ratio, generator)
        columns = draw_range(width, ratio, generator)
        partners = sent(torch.randperm(len(inputs), generator=generator), inputs.device)
        mixed = inputs.clone()
        mixed[:, :, rows, columns] = inputs[:, :, rows, columns][partners]
        area = (rows.stop - rows.start) * (columns.stop - columns.start)
        visible = 1 - area / (height * width)
        return mixed, torch.lerp(targets[partners], targets, visible)


def draw_range(side: int, ratio: float, generator: torch.Generator) -> slice:
    """Return a range of `ratio` * `side` pixels around a uniform center, clipped to the image."""
    center = int(torch.randint(side, (), generator=generator))
    half = int(side * ratio) // 2
    return slice(max(0, center - half), min(side, center + half))
