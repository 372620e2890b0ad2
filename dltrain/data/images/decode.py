"""Image files of every kind as bytes of one shape. It knows no data set."""

from __future__ import annotations

import functools
import importlib.util
import io
import os
import re
import stat
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageCms, ImageFile, ImageOps, TiffImagePlugin
from torch import Tensor

from dltrain.data.images.pixel_rule import (
    ALPHA,
    LEVELS,
    PixelRule,
    Pixels,
    Unsettled,
    Values,
    hidden_over,
)
from dltrain.errors import InputError

MODES = {1: "L", 3: "RGB"}
SMALL = 2**16  # bytes of a file, up to which opening costs more than decoding
MOST_IN_SMALL = 2**24  # pixels that such a file can be of
LARGEST = 2**29  # bytes of a file
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
warnings.filterwarnings(
    "ignore", category=Image.DecompressionBombWarning
)  # it comes at half of what PIL refuses
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of a JPEG file that say its size
WIDE_CHANNELS = re.compile(
    "(RGB|RGBA|RGBX|RGBa|CMYK|LA|L);16[BLN]"
)  # raw modes, of which PIL keeps upper bytes
WIDE_GRAY_WITH_ALPHA = "LA;16B"
SAMPLE_FORMAT, PHOTOMETRIC = 339, 262  # TIFF tags: what values are, and whether 0 is white
SIGNED = 2
ENOUGH_PIXELS = 32  # a side, to see whether an image shows anything over a background
ORIENTATION = 0x0112  # the EXIF tag, whose values from 5 on exchange width and height


def read_image(path: str | Path, shape: tuple[int, ...], rule: PixelRule = PixelRule()) -> Tensor:  # noqa: B008
    """Return the image in `path` as uint8 (C, H, W) of `shape`.

    It is turned as its EXIF data says, its values and transparency become bytes by the `rule`, it
    is converted to gray (C = 1) or color (C = 3), resized so that it covers H x W, and cropped
    around its center. InputError if it is none; Unsettled if the rule is of a survey and does not
    know the image's values.
    """
    channels, height, width = shape
    try:
        content = read_file(path)
        pixels = _small_jpeg(content, channels)
        if pixels is not None and pixels.shape[1:] == (height, width):
            return pixels
        image = _with_pil(content, shape, rule, str(path)) if pixels is None else _as_image(pixels)
    except Unsettled as e:
        e.pixels = None if e.pixels is None else _fitted(e.pixels, shape)
        raise
    except Exception as e:  # PIL raises nearly anything on a broken file
        raise InputError(f"{path} cannot be read as an image: {_reason(e)}") from e
    return _fitted(image, shape)


def _fitted(image: Image.Image, shape: tuple[int, ...]) -> Tensor:
    """Return an image of 8 bits as bytes of `shape`: resized to cover it, and cropped around its
    center.
    """
    channels, height, width = shape
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(image))
    return pixels.unsqueeze(0) if channels == 1 else pixels.permute(2, 0, 1).contiguous()


@dataclass
class Odd:
    """The images that could not be read, with the reason, and the values of those that a rule does
    not know, both by index.
    """

    why: dict[int, str] = field(default_factory=dict)
    unsettled: dict[int, Values] = field(default_factory=dict)

    def add(self, other: Odd, start: int) -> None:
        """Take over what was found of further images, the first of which has the index `start`."""
        self.why |= {start + i: why for i, why in other.why.items()}
        self.unsettled |= {start + i: values for i, values in other.unsettled.items()}


def read_images(
    paths: Sequence[str],
    out: Tensor,
    at: Callable[[str], None],
    rule: PixelRule = PixelRule(),  # noqa: B008
) -> Odd:
    """Fill `out` (N, C, H, W) with the images in `paths`, each told to `at` before; return what was
    odd.
    """
    odd, shape = Odd(), tuple(out.shape[1:])
    for i, path in enumerate(paths):
        at(path)
        try:
            out[i] = read_image(path, shape, rule)
        except InputError as e:
            odd.why[i] = str(e)
        except Unsettled as e:
            odd.unsettled[i] = e.values
            if e.pixels is not None:
                out[i] = e.pixels
    return odd


def read_file(path: str | Path) -> bytes:
    """The content of a regular file: a pipe or a device, which may never begin or never end, is an OSError."""
    with io.FileIO(path, opener=_without_waiting) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError("it is no regular file")
        if found.st_size > LARGEST:
            raise OSError(f"it has {found.st_size:,} bytes; an image can have {LARGEST:,}")
        return file.readall()


def _without_waiting(path: str, flags: int) -> int:
    return os.open(
        path, flags | getattr(os, "O_NONBLOCK", 0)
    )  # a pipe that nobody writes to opens at once


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def size_of(path: str) -> tuple[int, int] | None:
    """Height and width by the header of an image file, as it is to be seen; None if it has none."""
    try:
        with _opened(read_file(path)) as image:
            turned = image.getexif().get(ORIENTATION, 1) >= 5
            return (image.width, image.height) if turned else (image.height, image.width)
    except Exception:  # PIL raises nearly anything on a broken file
        return None


def _opened(content: bytes) -> ImageFile.ImageFile:
    """Open an image of a few known formats.

    Among PIL's others are those that start a program (EPS) or follow a path.
    """
    return Image.open(io.BytesIO(content), formats=FORMATS)


def _small_jpeg(content: bytes, channels: int) -> Tensor | None:
    """A JPEG file decoded without PIL, in a fraction of the time; None for any other file, or number of channels.

    Not for PNG: torchvision's decoder of it ends the process on some damaged files. Not for a JPEG of more pixels than a
    small file can hold: the decoder would make room for them all.
    """
    small = (
        len(content) <= SMALL
        and content.startswith(b"\xff\xd8\xff")
        and _jpeg_pixels(content) <= MOST_IN_SMALL
    )
    decode = _jpeg_decoder() if small else None
    if decode is None:
        return None
    try:
        pixels: Tensor = decode(torch.frombuffer(bytearray(content), dtype=torch.uint8), 0, True)
    except RuntimeError:
        return None  # PIL says what is wrong with it
    if len(pixels) == 1 and channels == 3:
        pixels = pixels.expand(3, -1, -1)
    return pixels if len(pixels) == channels else None


def _jpeg_pixels(content: bytes) -> float:
    """Height times width by the frame header of a JPEG file (ITU T.81, B.2.2), infinite where none is found."""
    at = 2
    while at + 9 <= len(content) and content[at] == 0xFF:
        if content[at + 1] in FRAMES:
            return int.from_bytes(content[at + 5 : at + 7]) * int.from_bytes(
                content[at + 7 : at + 9]
            )
        at += 2 + int.from_bytes(content[at + 2 : at + 4])  # the marker, and its segment
    return float("inf")


@functools.cache
def _jpeg_decoder() -> Callable[[Tensor, int, bool], Tensor] | None:
    """torchvision's (bytes, mode, turn as EXIF says), from its library alone: importing all of it takes a second.

    None where there is none: torchvision gives its decoders up some day.
    """
    package = importlib.util.find_spec("torchvision")
    for library in Path(str(package and package.origin)).parent.glob("image*"):
        if library.suffix in (".so", ".pyd", ".dylib"):
            try:
                torch.ops.load_library(library)
            except OSError:
                return None
    found: Callable[[Tensor, int, bool], Tensor] | None = getattr(
        torch.ops.image, "decode_jpeg", None
    )
    return found


def _as_image(pixels: Tensor) -> Image.Image:
    """Bytes (C, H, W) as PIL has them."""
    return Image.fromarray(
        pixels[0].numpy() if len(pixels) == 1 else pixels.permute(1, 2, 0).contiguous().numpy()
    )


def _with_pil(content: bytes, shape: tuple[int, ...], rule: PixelRule, name: str) -> Image.Image:
    """Read any image file that PIL knows.

    A JPEG of far more detail than `shape` holds is decoded at a part of its size.
    """
    mode, side = MODES[shape[0]], 2 * max(shape[1:])
    with _opened(content) as file:
        file.draft("RGB", (side, side))
        sample_type = sample_type_of(file)
        image: Image.Image = file
        if sample_type:
            image = _of_many_bits(file, content, sample_type, rule, name)
        image = ImageOps.exif_transpose(image)
        return _in_mode(image, mode, rule, name)


def sample_type_of(file: ImageFile.ImageFile) -> str:
    """Return what the values of an image file are, if they are not bytes: 16-bit, 32-bit, float or
    signed 8-bit.
    """
    if file.mode == "F":
        return "float"
    if file.mode == "I":
        return "32-bit"
    if file.mode.startswith("I;16") or WIDE_CHANNELS.fullmatch(_raw_mode(file)):
        return "16-bit"
    signed = file.mode == "L" and tiff_tag(file, SAMPLE_FORMAT) == SIGNED
    return "signed 8-bit" if signed else ""


def _of_many_bits(
    file: ImageFile.ImageFile, content: bytes, sample_type: str, rule: PixelRule, name: str
) -> Image.Image:
    """Return an image of 8 bits a channel of one that has more, with its orientation."""
    wide_gray = _raw_mode(file) == WIDE_GRAY_WITH_ALPHA
    values, alpha = _gray_with_alpha(content) if wide_gray else _values(file, content, sample_type)
    pixels = rule.to_bytes(sample_type, values, name)
    if tiff_tag(file, PHOTOMETRIC) == 0:  # 0 is white
        pixels = 255 - pixels
    if alpha is not None:
        pixels = np.dstack(
            [pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2), alpha]
        )
    image = Image.fromarray(pixels, file.mode if file.mode == "CMYK" else None)
    image.getexif()[ORIENTATION] = file.getexif().get(ORIENTATION, 1)
    return image


def _values(
    file: ImageFile.ImageFile, content: bytes, sample_type: str
) -> tuple[Pixels, Pixels | None]:
    """Return the values of an image of more than 8 bits a channel (H, W) or (H, W, C), and the
    bytes of its alpha.
    """
    raw = _raw_mode(file)
    if not WIDE_CHANNELS.fullmatch(raw):
        values = np.asarray(file)
        if sample_type == "signed 8-bit":
            return values.view(np.int8), None
        unsigned = (
            file.format == "TIFF"
            and raw.startswith("I;32")
            and tiff_tag(file, SAMPLE_FORMAT) != SIGNED
        )
        return (values.view(np.uint32) if unsigned else values), None
    upper = np.asarray(
        file
    )  # PIL keeps the upper byte of each value: of the swapped order it is the lower one
    swapped = raw[:-1] + ("L" if raw.endswith("B") else "B")
    lower = np.asarray(_decoded_as(content, swapped))
    alpha = upper[..., 3] if file.mode == "RGBA" else None
    channels = 4 if file.mode == "CMYK" else 3
    values = (upper.astype(np.uint16) << 8 | lower)[..., :channels] if upper.ndim == 3 else upper
    return values, alpha


def _gray_with_alpha(content: bytes) -> tuple[Pixels, Pixels]:
    """Return the values and the bytes of alpha of a PNG file with 16 bits of each, read as four
    bytes a pixel.
    """
    four = np.asarray(_decoded_as(content, "RGBA"))
    return four[..., 0].astype(np.uint16) << 8 | four[..., 1], four[..., 2]


def _decoded_as(content: bytes, raw_mode: str) -> Image.Image:
    """Return an image file decoded as if its bytes were in another order."""
    file = _opened(content)
    file.tile = [
        tile._replace(args=(raw_mode, *tile.args[1:]) if isinstance(tile.args, tuple) else raw_mode)
        for tile in file.tile
    ]
    file.load()
    return file


def _raw_mode(file: ImageFile.ImageFile) -> str:
    """Return PIL's name for the order of the bytes in a file, such as RGB;16B; empty if there is
    none.
    """
    args = file.tile[0].args if file.tile else ""
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def tiff_tag(file: ImageFile.ImageFile, number: int) -> Any:
    """Return the value of a TIFF file's tag, of several the first; None if it has not got it, and
    for other files.
    """
    if not isinstance(file, TiffImagePlugin.TiffImageFile):
        return None
    value = file.tag_v2.get(number)
    return value[0] if isinstance(value, tuple) and value else value


def _in_mode(image: Image.Image, mode: str, rule: PixelRule, name: str) -> Image.Image:
    """Return an image of 8 bits a channel in gray or color, with transparency over the background
    of the rule.
    """
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        return _over_background(image, mode, rule, name)
    if image.mode == mode:
        return image
    if image.mode == "LAB":
        return _from_lab(image).convert(mode)
    return (
        image.convert("RGB").convert(mode)
        if image.mode in ("HSV", "YCbCr")
        else image.convert(mode)
    )


def _over_background(image: Image.Image, mode: str, rule: PixelRule, name: str) -> Image.Image:
    """Return an image with transparency over a background; Unsettled, with that over black, if the
    rule does not know which it is to be.
    """
    straight = image.convert("LA") if image.mode == "La" else image
    colors = straight.convert("RGBA")
    if rule.background is not None:
        level = LEVELS[rule.background]
    else:
        small = colors.reduce(max(1, min(colors.size) // ENOUGH_PIXELS))
        seen = Values(ALPHA, hidden_over=hidden_over(np.asarray(small)))
        if rule.survey:
            raise Unsettled(
                seen,
                Image.alpha_composite(Image.new("RGBA", image.size, "black"), colors).convert(mode),
            )
        level = LEVELS[rule.backdrop(seen, name)]
    return Image.alpha_composite(
        Image.new("RGBA", image.size, (level, level, level)), colors
    ).convert(mode)


def _from_lab(image: Image.Image) -> Image.Image:
    """Return an image of CIE L*a*b* values in color."""
    profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
    assert converted is not None
    return converted


def _reason(error: Exception) -> str:
    """What an error says, without the addresses of objects in memory, which differ from run to run."""
    return (
        "it is of no format that PIL knows"
        if isinstance(error, Image.UnidentifiedImageError)
        else str(error)
    )
