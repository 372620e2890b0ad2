"""Random affine maps: rotation, shear, scale and shift."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from torch import Tensor

from dltrain.preprocessing.transform import ImageTransform, check_order, uniform
from dltrain.types import Fraction, Ge, Lt, NonNegative, PositiveFloat, Probability
from dltrain.types.transfers import sent_like

RADIANS = math.pi / 180  # per degree


class Affine(ImageTransform):
    """Rotates, shears, scales and shifts each image by random amounts; what was outside is black.

    The amounts are uniform: an angle in -`degrees`..`degrees`, a factor in `scale`, a shear of up
    to `shear` degrees along the rows, and shifts of up to a fraction `translate` of each side. Each
    image is changed with probability `share`.
    """

    def __init__(
        self,
        degrees: NonNegative = 10.0,
        translate: Fraction = 0.1,
        scale: tuple[PositiveFloat, PositiveFloat] = (0.9, 1.1),
        shear: Annotated[float, Ge(0), Lt(90)] = 0.0,
        share: Probability = 1.0,
    ) -> None:
        check_order("scale", *scale)
        self.degrees = degrees
        self.translate = translate
        self.scale = scale
        self.shear = shear
        self.share = share

    def change(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the images (B, C, H, W), each under its own map."""
        count = len(images)
        angle = uniform(generator, count, -self.degrees, self.degrees, images) * RADIANS
        scale = uniform(generator, count, *self.scale, images)
        slope = uniform(generator, count, -self.shear, self.shear, images).mul(RADIANS).tan()
        across = uniform(generator, count, -self.translate, self.translate, images)
        down = uniform(generator, count, -self.translate, self.translate, images)
        shifts = torch.stack([across, down], dim=1)
        if self.share == 1:
            return warp(images, rotation_maps(angle, slope) * scale.view(-1, 1, 1), shifts)
        changed = uniform(generator, count, 0, 1, images) < self.share
        if changed.any():
            maps = rotation_maps(angle, slope)[changed] * scale[changed].view(-1, 1, 1)
            images[changed] = warp(images[changed], maps, shifts[changed])
        return images


def rotation_maps(angle: Tensor, slope: Tensor) -> Tensor:
    """Return maps (B, 2, 2) that shear rows by `slope` (B,), then rotate by `angle` (B,).

    They map points (x, y) with y downwards, and rotate counter-clockwise.
    """
    cos, sin = angle.cos(), angle.sin()
    rotation = torch.stack([cos, sin, -sin, cos], dim=1).view(-1, 2, 2)
    shear = torch.eye(2, device=angle.device).repeat(len(angle), 1, 1)
    shear[:, 0, 1] = slope
    return rotation @ shear


def warp(
    images: Tensor, maps: Tensor, shifts: Tensor, outside: Literal["zeros", "border"] = "zeros"
) -> Tensor:
    """Return images (B, C, H, W) under `maps` (B, 2, 2), then moved by `shifts` (B, 2).

    Maps are of pixels (x, y) from the center, shifts are fractions of width and height. Values
    between pixels are bilinear; `outside` is black, or like the border.
    """
    height, width = images.shape[2:]
    # A pixel of the result looks up where it came from: by the inverse map (B, 2, 2).
    (a, b), (c, d) = maps[:, 0].unbind(1), maps[:, 1].unbind(1)
    back = torch.stack([d, -b, -c, a], dim=1) / (a * d - b * c).unsqueeze(1)
    # The sampling grid counts -1..1 along either side.
    sides = sent_like(torch.tensor([width, height]), images)
    linear = back.view(-1, 2, 2) * sides / sides.view(2, 1)
    offset = -(linear @ (2 * shifts).unsqueeze(2)).squeeze(2)
    x = sent_like(centers(width), images)
    y = sent_like(centers(height), images)
    # affine_grid without its matrix product: the part of x (B, 2, W) plus the part of y (B, 2, H).
    across = linear[:, :, 0, None] * x
    down = linear[:, :, 1, None] * y + offset.unsqueeze(2)
    grid = (across.unsqueeze(2) + down.unsqueeze(3)).movedim(1, 3).contiguous()
    return torch.nn.functional.grid_sample(images, grid, padding_mode=outside, align_corners=False)


def centers(side: int) -> Tensor:
    """Return the centers of the pixels of a side (side,), in -1..1 from edge to edge."""
    return (2 * torch.arange(side) + 1) / side - 1
