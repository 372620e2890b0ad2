"""Values of image files that have more than 8 bits a channel, which Pillow shortens or reorders."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin

from dltrain.data.images.opening import ORIENTATION, open_image
from dltrain.data.images.pixel_rule import PixelRule, Pixels

# Names of Pillow for orders of bytes in a file ("raw modes") of which it keeps the upper bytes.
WIDE_CHANNELS = re.compile("(RGB|RGBA|RGBX|RGBa|CMYK|LA|L);16[BLN]")
SAMPLE_TYPES = {"F": "float", "I": "32-bit"}  # of Pillow's modes that have one type
WIDE_GRAY_WITH_ALPHA = "LA;16B"
SAMPLE_FORMAT, PHOTOMETRIC = 339, 262  # TIFF tags: the type of the values, and whether 0 is white
SIGNED = 2
WHITE_IS_ZERO = 0


def sample_type_of(file: ImageFile.ImageFile) -> str:
    """Return the type of the values of an image file: 16-bit, 32-bit, float or signed 8-bit.

    It is empty for files of bytes.
    """
    if file.mode in SAMPLE_TYPES:
        return SAMPLE_TYPES[file.mode]
    if file.mode.startswith("I;16") or WIDE_CHANNELS.fullmatch(raw_mode(file)):
        return "16-bit"
    is_signed = file.mode == "L" and tiff_tag(file, SAMPLE_FORMAT) == SIGNED
    return "signed 8-bit" if is_signed else ""


def as_bytes(
    file: ImageFile.ImageFile, content: bytes, sample_type: str, rule: PixelRule, name: str
) -> Image.Image:
    """Return a file of a `sample_type` as an image of 8 bits a channel, with its orientation."""
    values, alpha = values_of(file, content, sample_type)
    pixels = rule.to_bytes(sample_type, values, name)
    if tiff_tag(file, PHOTOMETRIC) == WHITE_IS_ZERO:
        pixels = 255 - pixels
    if alpha is not None:
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, axis=2)
        pixels = np.dstack([pixels, alpha])
    image = Image.fromarray(pixels, file.mode if file.mode == "CMYK" else None)
    image.getexif()[ORIENTATION] = file.getexif().get(ORIENTATION, 1)
    return image


def values_of(
    file: ImageFile.ImageFile, content: bytes, sample_type: str
) -> tuple[Pixels, Pixels | None]:
    """Return the values of a file (H, W) or (H, W, C), and the bytes of its alpha (H, W)."""
    raw = raw_mode(file)
    if raw == WIDE_GRAY_WITH_ALPHA:
        return gray_with_alpha(content)
    if WIDE_CHANNELS.fullmatch(raw):
        return wide_values(file, content, raw)
    values = np.asarray(file)
    if sample_type == "signed 8-bit":
        return values.view(np.int8), None
    is_unsigned_tiff = file.format == "TIFF" and tiff_tag(file, SAMPLE_FORMAT) != SIGNED
    if is_unsigned_tiff and raw.startswith("I;32"):
        return values.view(np.uint32), None
    return values, None


def wide_values(
    file: ImageFile.ImageFile, content: bytes, raw: str
) -> tuple[Pixels, Pixels | None]:
    """Return values of 16 bits (H, W) or (H, W, C), and the upper bytes of alpha (H, W).

    Pillow keeps the upper byte of each value; of the file in the other order of bytes, that is the
    lower one.
    """
    upper = np.asarray(file)
    other_order = "L" if raw.endswith("B") else "B"
    lower = np.asarray(decoded_as(content, raw[:-1] + other_order))
    if upper.ndim == 2:
        return upper, None
    channels = 4 if file.mode == "CMYK" else 3
    values = (upper.astype(np.uint16) << 8 | lower)[..., :channels]
    return values, upper[..., 3] if file.mode == "RGBA" else None


def gray_with_alpha(content: bytes) -> tuple[Pixels, Pixels]:
    """Return the values (H, W) and the bytes of alpha (H, W) of a PNG file with 16 bits of each.

    It is read as four bytes a pixel.
    """
    four = np.asarray(decoded_as(content, "RGBA"))
    return four[..., 0].astype(np.uint16) << 8 | four[..., 1], four[..., 2]


def decoded_as(content: bytes, raw: str) -> Image.Image:
    """Return an image file decoded as if its bytes were in the order of a raw mode."""
    file = open_image(content)
    tiles = []
    for tile in file.tile:
        args = (raw, *tile.args[1:]) if isinstance(tile.args, tuple) else raw
        tiles.append(tile._replace(args=args))
    file.tile = tiles
    file.load()
    return file


def raw_mode(file: ImageFile.ImageFile) -> str:
    """Return Pillow's name for the order of bytes in a file, such as RGB;16B; else empty."""
    args = file.tile[0].args if file.tile else ""
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def tiff_tag(file: ImageFile.ImageFile, number: int) -> Any:
    """Return the value of a TIFF file's tag, the first of several; None without it."""
    if not isinstance(file, TiffImagePlugin.TiffImageFile):
        return None
    value = file.tag_v2.get(number)
    return value[0] if isinstance(value, tuple) and value else value
