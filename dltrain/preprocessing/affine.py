"""Random affine maps."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from torch import Tensor

from dltrain.preprocessing.transform import ImageTransform, draw
from dltrain.types import Fraction, Ge, Lt, NonNegative, PositiveFloat, Probability


class Affine(ImageTransform):
    """Turns, shears, scales and shifts each image by amounts of its own; what comes in from outside is black.

    Uniform draws: an angle in -`degrees`..`degrees`, a factor in `scale`, a shear of up to `shear` degrees along the rows,
    and shifts of up to a share `translate` of each side. Each image is changed with probability `share`.
    """

    def __init__(
        self,
        degrees: NonNegative = 10.0,
        translate: Fraction = 0.1,
        scale: tuple[PositiveFloat, PositiveFloat] = (0.9, 1.1),
        shear: Annotated[float, Ge(0), Lt(90)] = 0.0,
        share: Probability = 1.0,
    ) -> None:
        if scale[0] > scale[1]:
            raise ValueError(f"scale={list(scale)}: from the smallest to the largest")
        self.degrees, self.translate, self.scale, self.shear, self.share = (
            degrees,
            translate,
            scale,
            shear,
            share,
        )

    def change(self, images: Tensor, generator: torch.Generator) -> Tensor:
        count = len(images)
        angle = draw(generator, count, -self.degrees, self.degrees, images) * (math.pi / 180)
        scale = draw(generator, count, *self.scale, images)
        slope = draw(generator, count, -self.shear, self.shear, images).mul(math.pi / 180).tan()
        shifts = torch.stack(
            [draw(generator, count, -self.translate, self.translate, images) for _ in range(2)],
            dim=1,
        )
        if self.share == 1:
            return warp(images, turned(angle, slope) * scale.view(-1, 1, 1), shifts)
        changed = draw(generator, count, 0, 1, images) < self.share
        if changed.any():
            maps = turned(angle, slope)[changed] * scale[changed].view(-1, 1, 1)
            images[changed] = warp(images[changed], maps, shifts[changed])
        return images


def turned(angle: Tensor, slope: Tensor) -> Tensor:
    """The maps (B, 2, 2) that shear rows by `slope` (B,), then turn counter-clockwise by `angle` (B,), of points (x, y) with
    y downwards."""
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([cos, sin, -sin, cos], dim=1).view(-1, 2, 2)
    shear = torch.eye(2, device=angle.device).repeat(len(angle), 1, 1)
    shear[:, 0, 1] = slope
    return turn @ shear


def warp(
    images: Tensor, maps: Tensor, shifts: Tensor, outside: Literal["zeros", "border"] = "zeros"
) -> Tensor:
    """Images (B, C, H, W) under `maps` (B, 2, 2) of pixels (x, y) from the centre, then moved by `shifts` (B, 2), shares of
    width and height. Bilinear; outside is black, or like the border."""
    height, width = images.shape[2:]
    (a, b), (c, d) = maps[:, 0].unbind(1), maps[:, 1].unbind(1)
    back = torch.stack([d, -b, -c, a], dim=1) / (a * d - b * c).unsqueeze(
        1
    )  # a pixel looks up where it came from
    sides = torch.tensor([width, height], dtype=images.dtype, device=images.device)
    linear = (
        back.view(-1, 2, 2) * sides / sides.view(2, 1)
    )  # the grid counts -1..1 along either side
    offset = -(linear @ (2 * shifts).unsqueeze(2)).squeeze(2)
    x, y = (((2 * torch.arange(side) + 1) / side - 1).to(images) for side in (width, height))
    across = linear[:, :, 0, None] * x  # (B, 2, W) of where to look, and down (B, 2, H)
    down = linear[:, :, 1, None] * y + offset.unsqueeze(2)
    # affine_grid, without its matrix product
    grid = (across.unsqueeze(2) + down.unsqueeze(3)).movedim(1, 3).contiguous()
    return torch.nn.functional.grid_sample(images, grid, padding_mode=outside, align_corners=False)
