"""Image files of every kind as bytes of one shape. It knows no data set."""

from __future__ import annotations

import functools
import importlib.util
import io
import os
import stat
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from dltrain.errors import InputError

MODES = {1: "L", 3: "RGB"}
SMALL = 2**16  # bytes of a file, up to which opening costs more than decoding
MOST_IN_SMALL = 2**24  # pixels that such a file can be of
LARGEST = 2**29  # bytes of a file
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # it comes at half of what PIL refuses
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of a JPEG file that say its size
ORIENTATION = 0x0112  # the EXIF tag, whose values from 5 on exchange width and height


def read_image(path: str | Path, shape: tuple[int, ...]) -> Tensor:
    """The image in `path` as uint8 (C, H, W) of `shape`: turned as its EXIF data says, converted to grey (C = 1) or
    colour (C = 3), resized so that it covers H x W, and cropped around its centre. InputError if it is none."""
    channels, height, width = shape
    try:
        content = read_file(path)
        pixels = _small_jpeg(content, channels)
        if pixels is not None and pixels.shape[1:] == (height, width):
            return pixels
        image = _with_pil(content, shape) if pixels is None else _as_image(pixels)
    except Exception as e:  # PIL raises nearly anything on a broken file
        raise InputError(f"{path} cannot be read as an image: {_reason(e)}") from e
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(image))
    return pixels.unsqueeze(0) if channels == 1 else pixels.permute(2, 0, 1).contiguous()


def read_images(paths: Sequence[str], out: Tensor, at: Callable[[str], None]) -> dict[int, str]:
    """Fill `out` (N, C, H, W) with the images in `paths`, each told to `at` before; {index: why} of those that are none."""
    odd, shape = {}, tuple(out.shape[1:])
    for i, path in enumerate(paths):
        at(path)
        try:
            out[i] = read_image(path, shape)
        except InputError as e:
            odd[i] = str(e)
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
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe that nobody writes to opens at once


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


def _opened(content: bytes) -> Image.Image:
    """An image of a few known formats. Among PIL's others are those that start a program (EPS) or follow a path."""
    return Image.open(io.BytesIO(content), formats=FORMATS)


def _small_jpeg(content: bytes, channels: int) -> Tensor | None:
    """A JPEG file decoded without PIL, in a fraction of the time; None for any other file, or number of channels.

    Not for PNG: torchvision's decoder of it ends the process on some damaged files. Not for a JPEG of more pixels than a
    small file can hold: the decoder would make room for them all.
    """
    small = len(content) <= SMALL and content.startswith(b"\xff\xd8\xff") and _jpeg_pixels(content) <= MOST_IN_SMALL
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
            return int.from_bytes(content[at + 5 : at + 7]) * int.from_bytes(content[at + 7 : at + 9])
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
    found: Callable[[Tensor, int, bool], Tensor] | None = getattr(torch.ops.image, "decode_jpeg", None)
    return found


def _as_image(pixels: Tensor) -> Image.Image:
    """Bytes (C, H, W) as PIL has them."""
    return Image.fromarray(pixels[0].numpy() if len(pixels) == 1 else pixels.permute(1, 2, 0).contiguous().numpy())


def _with_pil(content: bytes, shape: tuple[int, ...]) -> Image.Image:
    """Any image file that PIL knows. A JPEG of far more detail than `shape` holds is decoded at a part of its size."""
    mode, side = MODES[shape[0]], 2 * max(shape[1:])
    with _opened(content) as file:
        file.draft("RGB", (side, side))
        image = ImageOps.exif_transpose(file)
        return image if image.mode == mode else _eight_bits(image).convert(mode)


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey levels as 8-bit ones (PIL's own conversion clips them), and alpha over black."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image, dtype=np.uint32) >> 8).astype(np.uint8))
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        coloured = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "black"), coloured)
    return image


def _reason(error: Exception) -> str:
    """What an error says, without the addresses of objects in memory, which differ from run to run."""
    return "it is of no format that PIL knows" if isinstance(error, Image.UnidentifiedImageError) else str(error)
