"""Conversion of standardized images back to pixels, whatever the data set's scaling."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dltrain.types import Spec

WHITE = 255.0


class Pixels(nn.Module):
    """Converts standardized images (B, C, H, W) of data like `spec` to pixels in 0..1.

    Tasks that draw images, or measure distances between images, work on pixels, so that their
    scores do not depend on `dataset.scaling`.

    Raises:
        ValueError: The data is not images; `task` is named in the message.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, spec: Spec, task: str) -> None:
        super().__init__()
        if not spec.is_image:
            raise ValueError(
                f"{task} works on images; this data has samples of the shape {spec.input_shape}"
            )
        channels = spec.input_shape[0]
        mean = spec.mean or (0.0,) * channels
        std = spec.std or (WHITE,) * channels
        self.is_identity = not any(mean) and all(value == WHITE for value in std)
        for name, values in (("scale", std), ("shift", mean)):
            value = torch.tensor(values).view(1, -1, 1, 1) / WHITE
            self.register_buffer(name, value, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the pixels (B, C, H, W) of standardized images of the same shape."""
        if self.is_identity:
            return images
        return torch.addcmul(self.shift, images, self.scale)
