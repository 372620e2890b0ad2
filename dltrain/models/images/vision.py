"""Helpers of the image networks: the choice between two forms, and refused image sizes."""

from __future__ import annotations

from typing import Literal, TypeAlias

from torch import nn

Stem: TypeAlias = Literal["auto", "small", "large"]
"""The form of a network.

large: as published, for about 224 pixels; small: 3x3 convolutions of stride 1 and no early pooling,
for about 32 pixels; auto: by the size.
"""
SMALL_BELOW_PIXELS = 64  # per side; "auto" selects the small form below it


def is_small(stem: Stem, image_size: tuple[int, int], below: int = SMALL_BELOW_PIXELS) -> bool:
    """Return whether a network takes its small form for images of this size."""
    return stem == "small" or (stem == "auto" and min(image_size) < below)


def refuse_below(least: int, image_size: tuple[int, int], name: str, small: bool) -> None:
    """Refuse images of less than `least` pixels per side.

    Raises:
        ValueError: The image is too small; the message has the settings to change.
    """
    if min(image_size) >= least:
        return
    height, width = image_size
    form = "small" if small else "large"
    alternative = "" if small else "model.stem=small, or "
    raise ValueError(
        f"model={name} with its {form} stem takes images of at least {least} pixels per side, not "
        f'{height}x{width}: set {alternative}"preprocessing=[resize]" with '
        f"preprocessing.resize.size={least} or more (for an image folder, dataset.image_size)"
    )


def stem_convolution(in_channels: int, out_channels: int, small: bool) -> nn.Conv2d:
    """Return the first convolution of residual and dense networks, with He initialization.

    It is 7x7 with stride 2, in the small form 3x3 with stride 1.
    """
    kernel, stride = (3, 1) if small else (7, 2)
    layer = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer
