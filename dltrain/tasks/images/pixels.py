"""The pixels of images again, from batches that are standardized in whatever way the data set says."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dltrain.types import Spec

WHITE = 255.0


class Pixels(nn.Module):
    """Images (B, C, H, W) with values in 0..1, from standardized batches of data like `spec`.

    Tasks that draw what a network makes, or measure how far it is from an image, work on these: their figures do not
    depend on `dataset.scaling`. ValueError for data other than images.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, spec: Spec, task: str) -> None:
        super().__init__()
        if not spec.is_image:
            raise ValueError(
                f"{task} works on images; this data has samples of the shape {spec.input_shape}"
            )
        mean, std = (
            spec.mean or (0.0,) * spec.input_shape[0],
            spec.std or (WHITE,) * spec.input_shape[0],
        )
        self.as_they_are = not any(mean) and all(s == WHITE for s in std)
        for name, values in (("scale", std), ("shift", mean)):
            self.register_buffer(
                name, torch.tensor(values).view(1, -1, 1, 1) / WHITE, persistent=False
            )

    def forward(self, images: Tensor) -> Tensor:
        return images if self.as_they_are else torch.addcmul(self.shift, images, self.scale)
