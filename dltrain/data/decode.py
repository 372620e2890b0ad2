"""Image files of every kind as bytes of one shape. It knows no data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from dltrain.errors import InputError

MODES = {1: "L", 3: "RGB"}


def read_image(path: Path, shape: tuple[int, ...]) -> Tensor:
    """The image in `path` as uint8 (C, H, W) of `shape`: turned as its EXIF data says, converted to grey (C = 1) or
    colour (C = 3), resized so that it covers H x W, and cropped around its centre. InputError if it is none."""
    channels, height, width = shape
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            image = image if image.mode == MODES[channels] else _eight_bits(image).convert(MODES[channels])
    except Exception as e:  # PIL raises nearly anything on a broken file
        raise InputError(f"{path} cannot be read as an image: {e}") from e
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(image))
    return pixels.unsqueeze(0) if channels == 1 else pixels.permute(2, 0, 1).contiguous()


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey levels as 8-bit ones (PIL's own conversion clips them), and alpha over black."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image, dtype=np.uint32) >> 8).astype(np.uint8))
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        coloured = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "black"), coloured)
    return image
