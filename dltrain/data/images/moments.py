"""Sums of the pixels of images, from which the statistics of any part of a set are made."""

from __future__ import annotations

import torch
from torch import Tensor


def moments_of_images(images: Tensor) -> Tensor:
    """Return the sum and the sum of squares (N, 2, C) of each channel of images (N, C, H, W)."""
    values = images.flatten(2).to(torch.float32)
    return torch.stack([values.sum(2), values.square_().sum(2)], dim=1).double()
