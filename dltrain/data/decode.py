"""Image files of every kind as bytes of one shape. It knows no data set."""

from __future__ import annotations

import functools
import importlib.util
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from dltrain.errors import InputError

MODES = {1: "L", 3: "RGB"}
SMALL = 2**16  # bytes of a file, up to which opening costs more than decoding
CHUNK = 32  # images that a thread decodes at a time
ORIENTATION = 0x0112  # the EXIF tag, whose values from 5 on exchange width and height


def read_image(path: str | Path, shape: tuple[int, ...]) -> Tensor:
    """The image in `path` as uint8 (C, H, W) of `shape`: turned as its EXIF data says, converted to grey (C = 1) or
    colour (C = 3), resized so that it covers H x W, and cropped around its centre. InputError if it is none."""
    channels, height, width = shape
    try:
        with io.FileIO(path) as file:
            content = file.read()
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


def read_images(paths: Sequence[str], out: Tensor) -> dict[int, str]:
    """Fill `out` (N, C, H, W) with the images in `paths`; {index: why} of those that cannot be read."""
    odd, shape = {}, tuple(out.shape[1:])
    for i, path in enumerate(paths):
        try:
            out[i] = read_image(path, shape)
        except InputError as e:
            odd[i] = str(e)
    return odd


def in_threads(work: Callable[[slice], Any], count: int, threads: int) -> Iterator[Any]:
    """`work` on chunks of `count` items, several at a time; the results in order. PIL and torch let go of Python's lock
    while they decode, so that threads use every core; there is no process that a signal could hit first."""
    pool = ThreadPoolExecutor(threads)
    try:
        yield from pool.map(work, (slice(i, min(i + CHUNK, count)) for i in range(0, count, CHUNK)))
    finally:
        pool.shutdown(cancel_futures=True)


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def size_of(path: str) -> tuple[int, int] | None:
    """Height and width by the header of an image file, as it is to be seen; None if it has none."""
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(ORIENTATION, 1) >= 5
            return (image.width, image.height) if turned else (image.height, image.width)
    except Exception:  # PIL raises nearly anything on a broken file
        return None


def _small_jpeg(content: bytes, channels: int) -> Tensor | None:
    """A JPEG file decoded without PIL, in a fraction of the time; None for any other file, or number of channels.

    Not for PNG: torchvision's decoder of it ends the process on some damaged files.
    """
    decode = _jpeg_decoder() if len(content) <= SMALL and content.startswith(b"\xff\xd8\xff") else None
    if decode is None:
        return None
    try:
        pixels: Tensor = decode(torch.frombuffer(bytearray(content), dtype=torch.uint8), 0, True)
    except RuntimeError:
        return None  # PIL says what is wrong with it
    if len(pixels) == 1 and channels == 3:
        pixels = pixels.expand(3, -1, -1)
    return pixels if len(pixels) == channels else None


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
    with Image.open(io.BytesIO(content)) as file:
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
