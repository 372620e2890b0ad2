"""Random flips."""

from __future__ import annotations

import torch
from torch import Tensor

from dltrain.preprocessing.transform import ImageTransform, uniform
from dltrain.types import Probability

WIDTH, HEIGHT = 3, 2  # axes of images (B, C, H, W)


class Flip(ImageTransform):
    """Flips images left to right with probability `p`, and upside down with `vertical`."""

    def __init__(self, p: Probability = 0.5, vertical: Probability = 0.0) -> None:
        self.p = p
        self.vertical = vertical

    def change(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the images (B, C, H, W), some of them flipped."""
        for probability, axis in ((self.p, WIDTH), (self.vertical, HEIGHT)):
            chosen = uniform(generator, len(images), 0, 1, images) < probability
            if probability:
                images = torch.where(chosen.view(-1, 1, 1, 1), images.flip(axis), images)
        return images
