"""Training on parts of images, at the size of the whole."""

from __future__ import annotations

import torch
from torch import Tensor

from dltrain.preprocessing.transform import ImageTransform
from dltrain.types import PositiveFloat, Probability

TRIES = 10  # for a box that fits, as in torchvision


class RandomResizedCrop(ImageTransform):
    """Enlarges a box of each image to the size of the image: its share of the area is in `scale`, its width to height in
    `ratio`.

    Szegedy et al. 2015, "Going Deeper with Convolutions", section 6, as torchvision's RandomResizedCrop draws it: the ratio
    uniform in its logarithm, ten tries for a box that fits, else the largest in the middle. Bilinear, within the box. For
    a network on smaller images, `resize` goes after it.
    """

    def __init__(
        self,
        scale: tuple[Probability, Probability] = (0.08, 1.0),
        ratio: tuple[PositiveFloat, PositiveFloat] = (3 / 4, 4 / 3),
    ) -> None:
        for name, (low, high) in (("scale", scale), ("ratio", ratio)):
            if low > high:
                raise ValueError(f"{name}={[low, high]}: from the smallest to the largest")
        self.scale, self.ratio = scale, ratio

    def change(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return resized_crops(images, *(part.to(images) for part in self.boxes(images, generator)))

    def boxes(
        self, images: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Top, left, height and width (B,) of a box in each image, in whole pixels."""
        (count, _, height, width), (low, high) = images.shape, self.ratio
        areas, ratios, tops, lefts = torch.rand(
            4, count, TRIES, generator=generator, dtype=torch.float64
        ).unbind()
        areas = (areas * (self.scale[1] - self.scale[0]) + self.scale[0]) * (height * width)
        ratios = low * (high / low) ** ratios
        widths, heights = (areas * ratios).sqrt().round(), (areas / ratios).sqrt().round()
        fits = (widths >= 1) & (widths <= width) & (heights >= 1) & (heights <= height)
        first = fits.long().argmax(dim=1, keepdim=True)
        found = [values.gather(1, first).squeeze(1) for values in (tops, lefts, heights, widths)]
        largest = torch.tensor(
            [0.5, 0.5, min(height, round(width / low)), min(width, round(height * high))]
        )
        some = fits.any(dim=1)
        tops, lefts, heights, widths = (
            torch.where(some, v, rest) for v, rest in zip(found, largest, strict=True)
        )
        return (
            (tops * (height - heights + 1)).floor(),
            (lefts * (width - widths + 1)).floor(),
            heights,
            widths,
        )


def resized_crops(
    images: Tensor, tops: Tensor, lefts: Tensor, heights: Tensor, widths: Tensor
) -> Tensor:
    """The boxes (B,) of images (B, C, H, W) at the size of the images, bilinearly between the pixels of the box."""
    grid = []
    for side, first, length in ((images.shape[3], lefts, widths), (images.shape[2], tops, heights)):
        centres = (torch.arange(side, device=images.device) + 0.5) / side
        places = (centres * length.unsqueeze(1) - 0.5).clamp_min(0)  # pixels of the box (B, side)
        places = torch.minimum(places, length.unsqueeze(1) - 1) + first.unsqueeze(1)
        grid.append(((2 * places + 1) / side - 1).to(images))  # -1..1 from edge to edge
    x, y = grid
    both = torch.stack(
        torch.broadcast_tensors(x.unsqueeze(1), y.unsqueeze(2)), dim=3
    )  # (B, H, W, 2)
    return torch.nn.functional.grid_sample(images, both, padding_mode="border", align_corners=False)
