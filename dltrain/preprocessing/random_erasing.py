"""Training on images in which a box is missing."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from dltrain.preprocessing.transform import ImageTransform, check_order, uniform
from dltrain.types import Ge, Gt, Le, Probability
from dltrain.types.transfers import sent

BYTES_PER_NUMBER = 8


class RandomErasing(ImageTransform):
    """Replaces a box of each image, with probability `p`, by noise or by a gray level `fill`.

    Zhong et al. 2020, "Random Erasing Data Augmentation", algorithm 1 with the values of its
    experiments: the area of the box is a fraction in `area` of the image, its ratio of height to
    width in `ratio`..1/`ratio`, and it lies anywhere in the image. If a box would reach out, the
    paper draws again; here it is cut to the image.
    """

    moves_pixels: ClassVar[bool] = False

    def __init__(
        self,
        p: Probability = 0.5,
        area: tuple[Probability, Probability] = (0.02, 0.4),
        ratio: Annotated[float, Gt(0), Le(1)] = 0.3,
        fill: Literal["random"] | Annotated[float, Ge(0), Le(255)] = "random",
    ) -> None:
        check_order("area", *area)
        self.p = p
        self.area = area
        self.ratio = ratio
        self.fill = fill

    def change(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the images (B, C, H, W), some of them with a box replaced."""
        count, _, height, width = images.shape
        chosen = uniform(generator, count, 0, 1, images) < self.p
        area = uniform(generator, count, *self.area, images) * (height * width)
        ratio = uniform(generator, count, self.ratio, 1 / self.ratio, images)
        top = uniform(generator, count, 0, 1, images)
        left = uniform(generator, count, 0, 1, images)
        rows = span(height, (area * ratio).sqrt(), top)
        columns = span(width, (area / ratio).sqrt(), left)
        box = chosen.view(-1, 1, 1) & rows.unsqueeze(2) & columns.unsqueeze(1)  # (B, H, W)
        box = box.unsqueeze(1)
        if self.fill != "random":
            return images.masked_fill(box, self.fill)
        gray = sent(noise(images.shape, generator), images.device)
        return torch.where(box, gray, images)


def noise(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Return uniform gray levels 0..255 as uint8; one random number gives eight of them."""
    count = (shape.numel() + BYTES_PER_NUMBER - 1) // BYTES_PER_NUMBER
    numbers = torch.randint(-(2**63), 2**63 - 1, (count,), generator=generator)
    return numbers.view(torch.uint8)[: shape.numel()].view(shape)


def span(side: int, length: Tensor, place: Tensor) -> Tensor:
    """Return which pixels of a side (B, side) are in a span of `length` (B,) pixels.

    The span begins at `place` (B,), a fraction of the pixels where it can begin.
    """
    length = length.round().clamp(0, side)
    first = (place * (side - length + 1)).floor()
    pixels = torch.arange(side, device=length.device)
    return (pixels >= first.unsqueeze(1)) & (pixels < (first + length).unsqueeze(1))
