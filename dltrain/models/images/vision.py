"""What the image networks share: which of two forms they take, and which sizes they refuse."""

from __future__ import annotations

from typing import Literal, TypeAlias

from torch import nn

Stem: TypeAlias = Literal["auto", "small", "large"]
"""large: as published, for about 224 pixels a side; small: 3x3 and without early pooling, for about 32; auto: by the size."""
SMALL_BELOW = 64  # pixels a side, from which on `auto` is the large form


def is_small(stem: Stem, image_size: tuple[int, int], below: int = SMALL_BELOW) -> bool:
    """Whether a network takes its small form for images of this size."""
    return stem == "small" or (stem == "auto" and min(image_size) < below)


def refuse_below(least: int, image_size: tuple[int, int], name: str, small: bool) -> None:
    """ValueError, with what to set instead, for images of less than `least` pixels a side."""
    if min(image_size) >= least:
        return
    height, width = image_size
    other = "" if small else "model.stem=small, or "
    raise ValueError(
        f"model={name} with its {'small' if small else 'large'} stem takes images of {least} pixels a side or more, not "
        f"{height}x{width}: {other}preprocessing=[resize] with preprocessing.resize.size={least} or more "
        f"(of an image folder, dataset.image_size)"
    )


def stem_convolution(in_channels: int, out_channels: int, small: bool) -> nn.Conv2d:
    """The first convolution of residual and dense networks: 7x7 by steps of 2, or of the small form 3x3; He's weights."""
    kernel, stride = (3, 1) if small else (7, 2)
    layer = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer
