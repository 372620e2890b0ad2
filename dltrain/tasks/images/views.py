"""Test-time augmentation: one prediction from several views of an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

SHIFT_PARTS = 16  # a shift is a sixteenth of a side: 2 of 32 pixels
CROP = 7 / 8  # of a side: 28 of 32 pixels, 224 of 256 as in Krizhevsky et al. 2012, section 4.1


def flips(images: Tensor) -> list[Tensor]:
    """Return the images (B, C, H, W), and the images flipped horizontally."""
    return [images, images.flip(3)]


def shifts(images: Tensor) -> list[Tensor]:
    """Return the images (B, C, H, W), and the images shifted to each side.

    The border is repeated.
    """
    height, width = images.shape[2:]
    down = max(1, height // SHIFT_PARTS)
    across = max(1, width // SHIFT_PARTS)
    padded = nn.functional.pad(images, [across, across, down, down], mode="replicate")
    corners = ((down, across), (0, across), (2 * down, across), (down, 0), (down, 2 * across))
    return [padded[:, :, top : top + height, left : left + width] for top, left in corners]


def crops(images: Tensor) -> list[Tensor]:
    """Return the center and the four corners of images (B, C, H, W), enlarged to their size."""
    height, width = images.shape[2:]
    crop_height = max(1, round(height * CROP))
    crop_width = max(1, round(width * CROP))
    down = height - crop_height
    across = width - crop_width
    corners = ((down // 2, across // 2), (0, 0), (0, across), (down, 0), (down, across))
    views = []
    for top, left in corners:
        part = images[:, :, top : top + crop_height, left : left + crop_width]
        views.append(nn.functional.interpolate(part, (height, width), mode="bilinear"))
    return views


View = Literal["flip", "shift", "crops"]
VIEWS = {"flip": flips, "shift": shifts, "crops": crops}


def views_of(images: Tensor, names: Sequence[str]) -> list[Tensor]:
    """Return every view of images (B, C, H, W), the images themselves first.

    Names multiply: crops and flip are the ten views of Krizhevsky et al. 2012, "ImageNet
    Classification with Deep Convolutional Neural Networks", section 4.1.
    """
    views = [images]
    for name in dict.fromkeys(names):
        make_views = VIEWS[name]
        views = [view for image in views for view in make_views(image)]
    return views


def mean_logits(model: nn.Module, images: Tensor, names: Sequence[str]) -> Tensor:
    """Return the logarithms (B, K) of the probabilities averaged over views of images (B, C, H, W).

    Without names they are the model's own logits.
    """
    if not names:
        logits: Tensor = model(images)
        return logits
    log_probabilities = torch.stack(
        [model(view).float().log_softmax(dim=1) for view in views_of(images, names)]
    )
    return log_probabilities.logsumexp(dim=0) - math.log(len(log_probabilities))
