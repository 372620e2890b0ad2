"""Random mirroring."""

from __future__ import annotations

import torch
from torch import Tensor

from dltrain.preprocessing.transform import ImageTransform, draw
from dltrain.types import Probability


class Flip(ImageTransform):
    """Mirrors each image left to right with probability `p`, and top to bottom with probability `vertical`."""

    def __init__(self, p: Probability = 0.5, vertical: Probability = 0.0) -> None:
        self.p, self.vertical = p, vertical

    def change(self, images: Tensor, generator: torch.Generator) -> Tensor:
        for p, axis in ((self.p, 3), (self.vertical, 2)):
            chosen = draw(generator, len(images), 0, 1, images) < p
            if p:
                images = torch.where(chosen.view(-1, 1, 1, 1), images.flip(axis), images)
        return images
