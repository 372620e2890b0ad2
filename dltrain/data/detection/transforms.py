"""Random changes of images that move their boxes too: a flip, and a change of scale and place."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dltrain.data.detection.samples import NO_CLASS
from dltrain.types.boxes import CLASS, FLAG
from dltrain.types.transfers import sent

MIN_FRACTION_LEFT = 0.25  # of a box inside the image after a change of scale, else it is dropped


class Flip:
    """Flips images (B, C, H, W) and boxes (B, M, 5 or 6) left to right, with `probability`."""

    training_only = True
    normalized = False
    mixes_targets = False
    moves_pixels = True

    def __init__(self, probability: float) -> None:
        self.probability = probability

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape (C, H, W), which stays as it is."""
        return shape

    def __call__(
        self, inputs: Tensor, targets: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return the batch with some images and their boxes flipped."""
        draws = torch.rand(len(inputs), generator=generator)
        chosen = sent(draws < self.probability, inputs.device)
        x1, y1, x2, y2, *rest = targets.unbind(dim=2)
        width = inputs.shape[3]
        flipped = torch.stack([width - x2, y1, width - x1, y2, *rest], dim=2)
        images = torch.where(chosen.view(-1, 1, 1, 1), inputs.flip(3), inputs)
        return images, torch.where(chosen.view(-1, 1, 1), flipped, targets)


class Jitter:
    """Shows images (B, C, H, W) at 1 - `amount` to 1 + `amount` times their size, anywhere.

    Its boxes are scaled and moved likewise; one of which less than a quarter is left inside the
    image is dropped.
    """

    training_only = True
    normalized = True  # the area around a smaller image becomes 0, which is the mean
    mixes_targets = False
    moves_pixels = True

    def __init__(self, amount: float) -> None:
        self.amount = amount

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape (C, H, W), which stays as it is."""
        return shape

    def __call__(
        self, inputs: Tensor, targets: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return the batch with each image and its boxes scaled and moved."""
        count, _, height, width = inputs.shape
        device = inputs.device
        uniform = sent(torch.rand(count, 3, generator=generator), device)
        scale = 1 + self.amount * (2 * uniform[:, :1] - 1)  # (B, 1)
        size = torch.tensor([width, height], device=device)
        # (B, 2): where the corner of the image comes; outside if the image is larger.
        shift = (size * (1 - scale)) * uniform[:, 1:]

        # The affine map goes from places in the result to places in the image.
        theta = torch.zeros(count, 2, 3, device=device)
        theta[:, 0, 0] = theta[:, 1, 1] = 1 / scale[:, 0]
        theta[:, :, 2] = (1 - 2 * shift / size) / scale - 1
        grid = F.affine_grid(theta, list(inputs.shape), align_corners=False)
        images = F.grid_sample(inputs, grid, align_corners=False)

        corners = targets[..., :4] * scale.unsqueeze(1) + shift.repeat(1, 2).unsqueeze(1)
        inside = corners.clamp(min=0).minimum(size.repeat(2))
        is_lost = area(inside) < MIN_FRACTION_LEFT * area(corners)
        labels = targets[..., CLASS].masked_fill(is_lost, NO_CLASS)
        return images, torch.cat([inside, labels.unsqueeze(-1), targets[..., FLAG:]], dim=2)


def area(corners: Tensor) -> Tensor:
    """Return the area (B, M) of boxes by their corners (B, M, 4)."""
    return (corners[..., 2:] - corners[..., :2]).prod(dim=2)
