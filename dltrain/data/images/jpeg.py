"""Decodes small JPEG files of large data sets by torchvision, to the same bytes as Pillow.

A file of 32 x 32 pixels takes torchvision 19 microseconds of CPU time and Pillow 59, most of them
in Python, where threads wait for each other. But importing torchvision takes a second and 160 MB,
which only many files give back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

JpegDecoder: TypeAlias = Callable[[bytes, int], Tensor | None]
MIN_FILES = 5000  # of a data set for which torchvision is imported
MAX_BYTES = 2**16  # of a file; in larger ones decoding takes most of the time
MAX_PIXELS = 2**24  # of a file: the decoder allocates as many as the header says
MODE_AS_STORED = 0  # torchvision.io.ImageReadMode.UNCHANGED
SIZE_MARKERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of the frame header


def torchvision_decoder() -> JpegDecoder | None:
    """Return a function that decodes a file's content to (C, H, W) bytes for a number of channels.

    It returns None for a file that is no small JPEG, is broken, or has other channels; Pillow
    decodes those and says what is wrong. It is not used for PNG files, since torchvision's decoder
    ends the process on some damaged ones. Returns None if this torchvision has no decoder.
    """
    operator = torchvision_operator()
    if operator is None:
        return None

    def decode(content: bytes, channels: int) -> Tensor | None:
        if not is_small_jpeg(content):
            return None
        data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        try:
            pixels = operator(data, MODE_AS_STORED, True)
        except RuntimeError:
            return None
        if len(pixels) == 1 and channels == 3:
            return pixels.expand(3, -1, -1)
        return pixels if len(pixels) == channels else None

    return decode


def torchvision_operator() -> Callable[[Tensor, int, bool], Tensor] | None:
    """Return torchvision's operator of (bytes, mode, whether to rotate as EXIF says), if any.

    It is the one of torchvision.io.decode_jpeg, which warns at every call that it will be removed.
    """
    try:
        import torchvision.io  # noqa: F401 - registers the operator
    except ImportError:
        return None
    operator: Callable[[Tensor, int, bool], Tensor] | None
    operator = getattr(torch.ops.image, "decode_jpeg", None)
    return operator


def is_jpeg_name(path: str) -> bool:
    """Return whether a path has the ending of a JPEG file."""
    return path.lower().endswith((".jpg", ".jpeg"))


def is_small_jpeg(content: bytes) -> bool:
    """Return whether a file is a JPEG of few bytes and pixels."""
    if not content.startswith(b"\xff\xd8\xff") or len(content) > MAX_BYTES:
        return False
    return header_pixels(content) <= MAX_PIXELS


def header_pixels(content: bytes) -> float:
    """Return height times width by the frame header of a JPEG file (ITU T.81, B.2.2).

    Infinite if no frame header is found.
    """
    at = 2
    while at + 9 <= len(content) and content[at] == 0xFF:
        if content[at + 1] in SIZE_MARKERS:
            height = int.from_bytes(content[at + 5 : at + 7])
            width = int.from_bytes(content[at + 7 : at + 9])
            return height * width
        segment_bytes = int.from_bytes(content[at + 2 : at + 4])
        at += 2 + segment_bytes
    return float("inf")
