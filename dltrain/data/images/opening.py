"""Opens image files safely: regular files of a bounded size, of a few known formats."""

from __future__ import annotations

import io
import os
import stat
import sys
import warnings
from pathlib import Path

from PIL import Image, ImageFile

MAX_FILE_BYTES = 2**29
# Among the other formats that Pillow reads are some that start a program (EPS) or follow a path.
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
# Pillow warns of half the size that it refuses.
NO_WARNING_OF_SIZE = ("ignore", None, Image.DecompressionBombWarning, None, 0)
ORIENTATION = 0x0112  # the EXIF tag
FIRST_SIDEWAYS = 5  # its values from this one on exchange width and height


def read_file(path: str | Path) -> bytes:
    """Return the content of a regular file.

    Raises OSError for a pipe or a device, which may never begin or never end, and for a file that
    is too large.
    """
    with io.FileIO(path, opener=open_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is not a regular file")
        if status.st_size > MAX_FILE_BYTES:
            raise OSError(f"it has {status.st_size:,} bytes; an image can have {MAX_FILE_BYTES:,}")
        return file.readall()


def open_without_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe that nobody writes to opens at once."""
    if sys.platform == "win32":
        return os.open(path, flags)
    return os.open(path, flags | os.O_NONBLOCK)


def open_image(content: bytes) -> ImageFile.ImageFile:
    """Open an image of one of the known formats; its pixels are decoded later."""
    if NO_WARNING_OF_SIZE not in warnings.filters:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    return Image.open(io.BytesIO(content), formats=FORMATS)


def size_of(path: str) -> tuple[int, int] | None:
    """Return the height and width in an image file's header, as it is displayed; else None."""
    try:
        with open_image(read_file(path)) as image:
            is_sideways = image.getexif().get(ORIENTATION, 1) >= FIRST_SIDEWAYS
            if is_sideways:
                return image.width, image.height
            return image.height, image.width
    except Exception:  # Pillow raises nearly anything on a broken file
        return None
