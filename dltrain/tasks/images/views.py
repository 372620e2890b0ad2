"""Test-time augmentation: one answer from several views of an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

SHIFT = 16  # a shift is a side's sixteenth: 2 pixels of 32
CROP = 7 / 8  # of a side: 28 pixels of 32, 224 of 256 as in Krizhevsky et al. 2012, section 4.1


def flips(images: Tensor) -> list[Tensor]:
    """The images (B, C, H, W) and what they look like in a mirror."""
    return [images, images.flip(3)]


def shifts(images: Tensor) -> list[Tensor]:
    """The images, and moved to the four sides; their border is repeated."""
    height, width = images.shape[2:]
    down, across = max(1, height // SHIFT), max(1, width // SHIFT)
    padded = nn.functional.pad(images, [across, across, down, down], mode="replicate")
    corners = ((down, across), (0, across), (2 * down, across), (down, 0), (down, 2 * across))
    return [padded[:, :, top : top + height, left : left + width] for top, left in corners]


def crops(images: Tensor) -> list[Tensor]:
    """The middle and the four corners, enlarged to the size of the images."""
    height, width = images.shape[2:]
    h, w = max(1, round(height * CROP)), max(1, round(width * CROP))
    down, across = height - h, width - w
    corners = ((down // 2, across // 2), (0, 0), (0, across), (down, 0), (down, across))
    parts = [images[:, :, top : top + h, left : left + w] for top, left in corners]
    return [nn.functional.interpolate(part, (height, width), mode="bilinear") for part in parts]


View = Literal["flip", "shift", "crops"]
VIEWS = {"flip": flips, "shift": shifts, "crops": crops}


def views_of(images: Tensor, names: Sequence[str]) -> list[Tensor]:
    """Every view of images (B, C, H, W), themselves first. Names multiply: crops and flip are the ten views of Krizhevsky
    et al. 2012, "ImageNet Classification with Deep Convolutional Neural Networks", section 4.1."""
    found = [images]
    for name in dict.fromkeys(names):
        found = [view for image in found for view in VIEWS[name](image)]
    return found


def mean_logits(model: nn.Module, images: Tensor, names: Sequence[str]) -> Tensor:
    """Logarithms (B, K) of the mean probabilities over views of images (B, C, H, W); without names the model's own logits."""
    if not names:
        logits: Tensor = model(images)
        return logits
    answers = torch.stack(
        [model(view).float().log_softmax(dim=1) for view in views_of(images, names)]
    )
    return answers.logsumexp(dim=0) - math.log(len(answers))
