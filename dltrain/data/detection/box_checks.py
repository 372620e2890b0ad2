"""Checks of the boxes in annotations: which cannot be boxes in their image, and why."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dltrain.data.detection.samples import AnnotatedImage, Box, Corners, Size

MAX_FRACTION = 1.01  # of an image's width or height, with room for rounding
MIN_SIDE_PIXELS = 4  # of an image in which a box within one pixel must be a mistake
# A box may reach out of its image by this much without a warning: some formats count from 1.
MAX_CUT_PIXELS = 1.0
FLAG_WORDS = {
    **dict.fromkeys(("", "none", "0", "0.0", "false", "no", "unspecified"), False),
    **dict.fromkeys(("1", "1.0", "true", "yes"), True),
}


def flag_of(value: object) -> bool | None:
    """Return a flag that files write as 0 or 1, false or true, or leave out; else None."""
    return FLAG_WORDS.get(str(value).strip().lower())


def in_pixels(box: Box, image: AnnotatedImage, size: Size) -> Corners:
    """Return the corners of a box in pixels of its file, which has the height and width `size`."""
    if not image.relative:
        return box.corners
    height, width = size
    x1, y1, x2, y2 = box.corners
    return x1 * width, y1 * height, x2 * width, y2 * height


def box_problem(
    corners: Corners, box: Box, image: AnnotatedImage, size: Size, num_classes: int
) -> str:
    """Return why a box cannot be one in an image of a height and width `size`; empty if it can.

    `corners` are those of the `box` in pixels.
    """
    if not all(map(math.isfinite, corners)):
        return "a corner is not a finite number"
    if not 0 <= box.label < num_classes:
        return f"there is no class {box.label}: they are 0 to {num_classes - 1}"
    return (
        size_problem(image, size)
        or area_problem(corners)
        or place_problem(corners, image, size)
        or unit_problem(corners, box, image, size)
    )


def size_problem(image: AnnotatedImage, size: Size) -> str:
    """Return that an image has another size than its annotation says; empty if not."""
    height, width = size
    stated = image.stated_size
    if stated is None or stated == (width, height):
        return ""
    is_rotated = stated == size
    hint = " (rotated as its EXIF data may say)" if is_rotated else ""
    return (
        f"its annotation says {stated[0]}x{stated[1]} pixels, "
        f"and {image.path} has {size_text(size)}{hint}"
    )


def area_problem(corners: Corners) -> str:
    """Return that a box has no area; empty if it has one."""
    x1, y1, x2, y2 = corners
    if x2 > x1 and y2 > y1:
        return ""
    return f"the box has no area: {x2 - x1:g} wide and {y2 - y1:g} high"


def place_problem(corners: Corners, image: AnnotatedImage, size: Size) -> str:
    """Return that a box lies outside its image; empty if a part of it is inside."""
    height, width = size
    x1, y1, x2, y2 = corners
    if min(x2, y2) > 0 and x1 < width and y1 < height:
        return ""
    place = f"from {x1:g}, {y1:g} to {x2:g}, {y2:g}"
    hint = "; its numbers are fractions of the image, not pixels" if image.relative else ""
    return f"the box lies outside the image of {size_text(size)}: {place}{hint}"


def unit_problem(corners: Corners, box: Box, image: AnnotatedImage, size: Size) -> str:
    """Return that a box is in another unit than expected: pixels, or fractions of the image.

    Empty if it is in the expected unit.
    """
    x1, y1, x2, y2 = box.corners
    is_above_1 = max((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1) > MAX_FRACTION
    is_in_one_pixel = max(corners[2:]) <= 1 and min(size) >= MIN_SIDE_PIXELS
    if image.relative and is_above_1:
        return "a number is above 1; expected fractions of the image's width and height, not pixels"
    if not image.relative and is_in_one_pixel:
        return (
            "the box lies within one pixel; expected corners in pixels, not fractions of the image"
        )
    return ""


def reaches_out(corners: Corners, size: Size) -> bool:
    """Return whether a box reaches out of its image by more than rounding explains."""
    height, width = size
    x1, y1, x2, y2 = corners
    allowed = MAX_CUT_PIXELS + (MAX_FRACTION - 1) * max(size)
    return max(-x1, -y1, x2 - width, y2 - height) > allowed


def numbers_text(values: Sequence[float]) -> str:
    """Return coordinates as text."""
    return ", ".join(f"{value:g}" for value in values)


def size_text(size: Size) -> str:
    """Return a height and width as people write it: width x height."""
    return f"{size[1]}x{size[0]}"
