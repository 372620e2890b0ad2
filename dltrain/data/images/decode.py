"""Decodes image files of every kind to bytes of one shape. It knows no data set."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageCms, ImageFile, ImageOps
from torch import Tensor

from dltrain.data.images.jpeg import MAX_BYTES, MAX_PIXELS, JpegDecoder
from dltrain.data.images.many_bits import as_bytes, sample_type_of
from dltrain.data.images.opening import open_image, read_file
from dltrain.data.images.pixel_rule import (
    ALPHA,
    LEVELS,
    PixelRule,
    Unsettled,
    Values,
    hidden_over,
)
from dltrain.errors import InputError

MODES = {1: "L", 3: "RGB"}  # by the number of channels
MODES_WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
MIN_SIDE_PIXELS = 32  # enough to see whether an image shows anything over a background


def read_image(
    path: str | Path,
    shape: tuple[int, ...],
    rule: PixelRule = PixelRule(),  # noqa: B008
    jpeg_decoder: JpegDecoder | None = None,
) -> Tensor:
    """Return the image in a file as uint8 (C, H, W) of `shape`.

    It is rotated as its EXIF data says, its values and transparency become bytes by the `rule`, it
    is converted to gray (C = 1) or color (C = 3), resized so that it covers H x W, and cropped
    around its center. Small JPEG files are decoded by `jpeg_decoder` if there is one, which saves
    time, all others by Pillow. Raises InputError for a file that is not an image, and Unsettled if
    the rule is that of a survey and does not know the image's values.
    """
    try:
        content = read_file(path)
    except OSError as e:
        raise InputError(f"{path} cannot be read as an image: {e}") from e
    return decode_image(content, str(path), shape, rule, jpeg_decoder)


def decode_image(
    content: bytes,
    name: str,
    shape: tuple[int, ...],
    rule: PixelRule = PixelRule(),  # noqa: B008
    jpeg_decoder: JpegDecoder | None = None,
) -> Tensor:
    """Return the image in a file's content as uint8 (C, H, W); see `read_image`.

    Messages call it by its `name`.
    """
    try:
        pixels = jpeg_decoder(content, shape[0]) if jpeg_decoder else None
        if pixels is None:
            image = decoded(content, shape, rule, name)
        elif pixels.shape == shape:
            return pixels
        else:
            image = as_image(pixels)
    except Unsettled as e:
        if e.pixels is not None:
            e.pixels = fitted(e.pixels, shape)
        raise
    except Exception as e:  # Pillow raises nearly anything on a broken file
        raise InputError(f"{name} cannot be read as an image: {reason(e)}") from e
    return fitted(image, shape)


@dataclass
class OddImages:
    """Images that could not be read, and those whose values a rule does not know.

    The reasons and the values are by the image's index.
    """

    why: dict[int, str] = field(default_factory=dict)
    unsettled: dict[int, Values] = field(default_factory=dict)

    def add(self, other: OddImages, start: int) -> None:
        """Add those of further images, the first of which has the index `start`."""
        self.why |= {start + i: why for i, why in other.why.items()}
        self.unsettled |= {start + i: values for i, values in other.unsettled.items()}


def read_images(
    paths: Sequence[str],
    out: Tensor,
    at: Callable[[str], None],
    rule: PixelRule = PixelRule(),  # noqa: B008
    jpeg_decoder: JpegDecoder | None = None,
) -> OddImages:
    """Decode the images in `paths` into `out` (N, C, H, W), and return those that could not be.

    `at` is called with each path before it is read.
    """
    odd = OddImages()
    shape = tuple(out.shape[1:])
    for i, path in enumerate(paths):
        at(path)
        try:
            out[i] = read_image(path, shape, rule, jpeg_decoder)
        except InputError as e:
            odd.why[i] = str(e)
        except Unsettled as e:
            odd.unsettled[i] = e.values
            if e.pixels is not None:
                out[i] = e.pixels
    return odd


def cores() -> int:
    """Return how many CPU cores this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def decoded(content: bytes, shape: tuple[int, ...], rule: PixelRule, name: str) -> Image.Image:
    """Return the image in a file's content, of 8 bits a channel, gray or color as `shape` says.

    A JPEG that is not small and has far more detail than `shape` is decoded at a fraction of its
    size.
    """
    mode = MODES[shape[0]]
    with open_image(content) as file:
        if not is_decoded_in_full(file, content, mode):
            side = 2 * max(shape[1:])
            file.draft("RGB", (side, side))
        sample_type = sample_type_of(file)
        image: Image.Image = file
        if sample_type:
            image = as_bytes(file, content, sample_type, rule, name)
        return in_mode(ImageOps.exif_transpose(image), mode, rule, name)


def is_decoded_in_full(file: ImageFile.ImageFile, content: bytes, mode: str) -> bool:
    """Return whether a file is a JPEG that is decoded in full, whatever size it is to become."""
    if file.format != "JPEG" or len(content) > MAX_BYTES:
        return False
    return file.mode in ("L", mode) and file.width * file.height <= MAX_PIXELS


def as_image(pixels: Tensor) -> Image.Image:
    """Return bytes (C, H, W) as an image of Pillow."""
    if len(pixels) == 1:
        return Image.fromarray(pixels[0].numpy())
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def fitted(image: Image.Image, shape: tuple[int, ...]) -> Tensor:
    """Return an image of 8 bits a channel as bytes (C, H, W) of `shape`.

    It is resized to cover the shape, and cropped around its center.
    """
    channels, height, width = shape
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(image))
    if channels == 1:
        return pixels.unsqueeze(0)
    return pixels.permute(2, 0, 1).contiguous()


def in_mode(image: Image.Image, mode: str, rule: PixelRule, name: str) -> Image.Image:
    """Return an image of 8 bits a channel in gray or color.

    Transparency is put over the background of the rule.
    """
    if image.mode in MODES_WITH_ALPHA or "transparency" in image.info:
        return over_background(image, mode, rule, name)
    if image.mode == "LAB":
        image = from_lab(image)
    if image.mode in ("HSV", "YCbCr"):
        image = image.convert("RGB")
    return image if image.mode == mode else image.convert(mode)


def over_background(image: Image.Image, mode: str, rule: PixelRule, name: str) -> Image.Image:
    """Return an image with transparency over a background.

    Raises Unsettled, with the image over black, if the rule does not know the background.
    """
    straight = image.convert("LA") if image.mode == "La" else image
    colors = straight.convert("RGBA")
    background = rule.background
    if background is None:
        small = colors.reduce(max(1, min(colors.size) // MIN_SIDE_PIXELS))
        values = Values(ALPHA, hidden_over=hidden_over(np.asarray(small)))
        if rule.survey:
            raise Unsettled(values, composed(colors, "black").convert(mode))
        background = rule.backdrop(values, name)
    return composed(colors, background).convert(mode)


def composed(colors: Image.Image, background: str) -> Image.Image:
    """Return an image in RGBA over a background of black, gray or white."""
    level = LEVELS[background]
    return Image.alpha_composite(Image.new("RGBA", colors.size, (level, level, level)), colors)


def from_lab(image: Image.Image) -> Image.Image:
    """Return an image of CIE L*a*b* values in color."""
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    assert converted is not None
    return converted


def reason(error: Exception) -> str:
    """Return the text of an error, without addresses in memory, which differ between runs."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "it is of no format that Pillow reads"
    return str(error)
