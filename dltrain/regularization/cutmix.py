"""CutMix: training on images with a box of another in them."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from dltrain.regularization.mixup import draw_share
from dltrain.regularization.regularizer import Regularizer
from dltrain.types import PositiveFloat


class CutMix(Regularizer):
    """Pastes a box of another image of the batch into each image (B, C, H, W); targets are mixed by area.

    Yun et al. 2019, "CutMix", equations 1 and 2 and algorithm A1: l from Beta(alpha, alpha), a box of sqrt(1 - l) of both
    sides around a uniform centre, cut at the border, and l then what is left of the image in fact. One box a batch,
    partners by a permutation of it. Unlike blends, every pixel is a real one.
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
                f"regularization=[cutmix] pastes images, not inputs of shape {shape}: mixup takes any"
            )
        return shape

    def __call__(
        self, inputs: Tensor, targets: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        height, width = inputs.shape[2:]
        ratio = (1 - draw_share(self.alpha, generator)) ** 0.5
        rows, columns = (draw_range(side, ratio, generator) for side in (height, width))
        partners = torch.randperm(len(inputs), generator=generator).to(inputs.device)
        mixed = inputs.clone()
        mixed[:, :, rows, columns] = inputs[:, :, rows, columns][partners]
        share = 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
        return mixed, torch.lerp(targets[partners], targets, share)


def draw_range(side: int, ratio: float, generator: torch.Generator) -> slice:
    """`ratio` of `side` pixels around a uniform centre, as far as they are in the image."""
    centre, half = int(torch.randint(side, (), generator=generator)), int(side * ratio) // 2
    return slice(max(0, centre - half), min(side, centre + half))
