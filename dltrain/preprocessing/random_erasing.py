"""Training on images with a box missing."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from dltrain.preprocessing.transform import ImageTransform, draw
from dltrain.types import Ge, Gt, Le, Probability


class RandomErasing(ImageTransform):
    """Replaces a box of each image, with probability `p`, by random values or by `fill`, a grey level in 0..255.

    Zhong et al. 2020, "Random Erasing Data Augmentation", algorithm 1 with the values of its experiments: the box has a share
    in `area` of the image and a ratio of height to width in `ratio`..1/`ratio`, and lies anywhere in the image. Where one
    would stick out, the paper draws again; here it is cut to the image.
    """

    moves_pixels: ClassVar[bool] = False

    def __init__(
        self,
        p: Probability = 0.5,
        area: tuple[Probability, Probability] = (0.02, 0.4),
        ratio: Annotated[float, Gt(0), Le(1)] = 0.3,
        fill: Literal["random"] | Annotated[float, Ge(0), Le(255)] = "random",
    ) -> None:
        if area[0] > area[1]:
            raise ValueError(f"area={list(area)}: from the smallest to the largest")
        self.p, self.area, self.ratio, self.fill = p, area, ratio, fill

    def change(self, images: Tensor, generator: torch.Generator) -> Tensor:
        count, _, height, width = images.shape
        chosen = draw(generator, count, 0, 1, images) < self.p
        area = draw(generator, count, *self.area, images) * (height * width)
        ratio = draw(generator, count, self.ratio, 1 / self.ratio, images)
        rows = span(height, (area * ratio).sqrt(), draw(generator, count, 0, 1, images))
        columns = span(width, (area / ratio).sqrt(), draw(generator, count, 0, 1, images))
        box = (chosen.view(-1, 1, 1) & rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(
            1
        )  # (B, 1, H, W)
        if self.fill != "random":
            return images.masked_fill(box, self.fill)
        return torch.where(box, noise(images.shape, generator).to(images.device), images)


def noise(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Grey levels 0..255, each as likely, as uint8: eight of them come from each number that is drawn."""
    drawn = torch.randint(-(2**63), 2**63 - 1, ((shape.numel() + 7) // 8,), generator=generator)
    return drawn.view(torch.uint8)[: shape.numel()].view(shape)


def span(side: int, length: Tensor, place: Tensor) -> Tensor:
    """Which of `side` pixels (B, side) are within `length` (B,) of them that begin at `place`, a share of where they can."""
    length = length.round().clamp(0, side)
    first = (place * (side - length + 1)).floor()
    pixels = torch.arange(side, device=length.device)
    return (pixels >= first.unsqueeze(1)) & (pixels < (first + length).unsqueeze(1))
