"""Scales an image to fit into a size and pads the rest with the mean color ("letterbox")."""

from __future__ import annotations

import torch
from torch import Tensor

from dltrain.data.detection.samples import Size
from dltrain.data.images.decode import read_image
from dltrain.data.images.opening import size_of
from dltrain.data.images.pixel_rule import PixelRule
from dltrain.errors import InputError
from dltrain.types.boxes import scale_to_fit

# Per channel, in 0..255: those of ImageNet for color images, about the same for gray ones.
MEAN = (123.7, 116.3, 103.5)
STD = (58.4, 57.1, 57.4)
GRAY_MEAN = (114.0,)
GRAY_STD = (58.0,)


def letterbox(path: str, channels: int, into: Size, rule: PixelRule) -> tuple[Tensor, Size]:
    """Return the image in a file (C, H, W) of the size `into`, and the file's own height and width.

    It is padded at the right and the bottom. Its values become bytes by the `rule`. Raises
    InputError for a file that is not an image.
    """
    size = size_of(path)
    if size is None:
        read_image(path, (channels, *into), rule)  # its error says what is wrong with the file
        raise InputError(f"{path} cannot be read as an image")
    scale = scale_to_fit(size, into)
    height = max(1, min(into[0], round(size[0] * scale)))
    width = max(1, min(into[1], round(size[1] * scale)))
    color = torch.tensor(MEAN if channels == 3 else GRAY_MEAN).round().to(torch.uint8)
    pixels = color.view(-1, 1, 1).expand(-1, *into).clone()
    pixels[:, :height, :width] = read_image(path, (channels, height, width), rule)
    return pixels, size
