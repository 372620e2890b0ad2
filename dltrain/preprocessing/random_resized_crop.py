"""Training on parts of images, enlarged to the size of the whole."""

from __future__ import annotations

import torch
from torch import Tensor

from dltrain.preprocessing.transform import ImageTransform, check_order
from dltrain.types import PositiveFloat, Probability
from dltrain.types.transfers import sent_like

TRIES = 10  # for a box that fits, as in torchvision


class RandomResizedCrop(ImageTransform):
    """Enlarges a random box of each image to the size of the image.

    The area of the box is a fraction in `scale` of the image, its ratio of width to height in
    `ratio`. Szegedy et al. 2015, "Going Deeper with Convolutions", section 6, as torchvision's
    RandomResizedCrop draws it: the ratio uniform in its logarithm, ten tries for a box that fits,
    else the largest at the center. Bilinear, within the box. For a network on smaller images,
    `resize` goes after it.
    """

    def __init__(
        self,
        scale: tuple[Probability, Probability] = (0.08, 1.0),
        ratio: tuple[PositiveFloat, PositiveFloat] = (3 / 4, 4 / 3),
    ) -> None:
        check_order("scale", *scale)
        check_order("ratio", *ratio)
        self.scale = scale
        self.ratio = ratio

    def change(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return a box of each image, at the size (B, C, H, W) of the images."""
        boxes = sent_like(torch.stack(self.boxes(images, generator)), images)  # (4, B)
        return resized_crops(images, *boxes)

    def boxes(
        self, images: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return top, left, height and width (B,) of a box in each image, in whole pixels."""
        count, _, height, width = images.shape
        low, high = self.ratio
        smallest, largest = self.scale
        shape = (4, count, TRIES)
        uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
        areas, ratios, tops, lefts = uniform.unbind()
        areas = (areas * (largest - smallest) + smallest) * (height * width)
        ratios = low * (high / low) ** ratios
        widths, heights = (areas * ratios).sqrt().round(), (areas / ratios).sqrt().round()

        # The first box of each image that fits, or else the largest one at the center.
        fits = (widths >= 1) & (widths <= width) & (heights >= 1) & (heights <= height)
        first = fits.long().argmax(dim=1, keepdim=True)
        any_fits = fits.any(dim=1)
        center = torch.tensor(0.5)
        largest_height = torch.tensor(float(min(height, round(width / low))))
        largest_width = torch.tensor(float(min(width, round(height * high))))
        top = torch.where(any_fits, chosen(tops, first), center)
        left = torch.where(any_fits, chosen(lefts, first), center)
        box_height = torch.where(any_fits, chosen(heights, first), largest_height)
        box_width = torch.where(any_fits, chosen(widths, first), largest_width)
        return (
            (top * (height - box_height + 1)).floor(),
            (left * (width - box_width + 1)).floor(),
            box_height,
            box_width,
        )


def chosen(values: Tensor, tries: Tensor) -> Tensor:
    """Return the value (B,) of one try of each image, of values (B, TRIES) and tries (B, 1)."""
    return values.gather(1, tries).squeeze(1)


def resized_crops(
    images: Tensor, tops: Tensor, lefts: Tensor, heights: Tensor, widths: Tensor
) -> Tensor:
    """Return boxes (B,) of images (B, C, H, W) at the size of the images.

    Values are bilinear between the pixels of the box.
    """
    x = sampling_places(images, images.shape[3], lefts, widths)
    y = sampling_places(images, images.shape[2], tops, heights)
    grid = torch.broadcast_tensors(x.unsqueeze(1), y.unsqueeze(2))
    both = torch.stack(grid, dim=3)  # (B, H, W, 2)
    return torch.nn.functional.grid_sample(images, both, padding_mode="border", align_corners=False)


def sampling_places(images: Tensor, side: int, first: Tensor, length: Tensor) -> Tensor:
    """Return where each pixel of a side (B, side) is looked up, in -1..1 from edge to edge.

    The box begins at pixel `first` (B,) and has a `length` (B,).
    """
    centers = (torch.arange(side, device=images.device) + 0.5) / side
    places = (centers * length.unsqueeze(1) - 0.5).clamp_min(0)  # in pixels of the box
    places = torch.minimum(places, length.unsqueeze(1) - 1) + first.unsqueeze(1)
    return ((2 * places + 1) / side - 1).to(images)
