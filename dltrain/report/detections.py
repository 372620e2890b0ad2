"""Draws images with boxes around their objects, one below the other.

The sizes of text and lines are relative to the picture's width, so that they are legible in
TensorBoard, which shows a picture about 350 pixels wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dltrain.report.fonts import cut_to, draw_text, drawable, text_width, wrapped
from dltrain.types import Image, MarkedBox

Pixels = NDArray[np.uint8]
Area = tuple[float, float, float, float]  # left, top, right, bottom
Color = tuple[int, int, int]
# The longer side of a drawn image in pixels, approximately: images are enlarged by whole numbers.
TARGET_SIDE = 704
TEXT_SIZE = 13 / 350  # height of a letter, as a fraction of the picture's width
LINE_WIDTH = 2.5 / 350  # width of a box's line, as a fraction of the picture's width
MAX_LABEL_WIDTH = 0.6  # width of an object's label, as a fraction of the picture's width
LINE_HEIGHT = 1.3  # distance of two lines of text, as a multiple of the text size
MIN_UNHIDDEN_WIDTH = 3  # text sizes; labels keep off narrower boxes, which they would hide
MAX_CAPTION_LINES = 2
COLORS: dict[str, Color] = {"true": (64, 210, 110), "predicted": (255, 150, 30)}
UNCOUNTED: Color = (190, 190, 190)  # of objects that are not scored
OUTLINE: Color = (0, 0, 0)


def boxed_pictures(image: Image) -> Pixels:
    """Draw the pictures of an `Image` with their boxes, each below its caption.

    A caption stands beside a patch in the color of its boxes. The label of an object is its text on
    a filled background outside its box, above it if there is room. A label that would cover another
    one is left out.
    """
    from PIL import Image as Picture
    from PIL import ImageDraw

    colors = [COLORS[boxes.kind] for boxes in image.boxes]
    parts = [
        _with_boxes(pixels, boxes.items, color)
        for pixels, boxes, color in zip(image.pixels, image.boxes, colors, strict=True)
    ]
    width = parts[0].width
    text_size = _text_size(width)
    captions = _caption_lines(image, width, text_size)
    caption_heights = [_caption_height(lines, text_size) for lines in captions]
    total_height = sum(caption_heights) + sum(part.height for part in parts)
    canvas = Picture.new("RGB", (width, total_height), "white")
    draw = ImageDraw.Draw(canvas)
    top = 0
    for part, height, lines, color in zip(parts, caption_heights, captions, colors, strict=True):
        if lines:
            _draw_caption(draw, top, height, lines, color, text_size)
        canvas.paste(part, (0, top + height))
        top += height + part.height
    return np.asarray(canvas)


def _caption_lines(image: Image, width: int, text_size: int) -> list[list[str]]:
    """Return the lines of each picture's caption; an empty list for a picture without one."""
    room = width - 3 * text_size
    captions: list[list[str]] = [[] for _ in image.boxes]
    for number, caption in enumerate(image.captions[: len(captions)]):
        if caption:
            captions[number] = wrapped(caption, room, text_size, MAX_CAPTION_LINES)
    return captions


def _caption_height(lines: Sequence[str], text_size: int) -> int:
    """Return the height of a caption in pixels."""
    if not lines:
        return 0
    return round(LINE_HEIGHT * text_size * len(lines) + text_size)


def _draw_caption(
    draw: Any, top: int, height: int, lines: Sequence[str], color: Color, text_size: int
) -> None:
    """Draw the lines of a caption between `top` and `top` + `height`, beside a patch of color."""
    margin = text_size // 2
    patch = (margin, top + margin, margin + text_size, top + margin + text_size)
    draw.rectangle(patch, fill=color, outline=OUTLINE)
    line_distance = LINE_HEIGHT * text_size
    first = top + height / 2 - (len(lines) - 1) / 2 * line_distance
    for number, line in enumerate(lines):
        left = 3 * margin + text_size
        draw_text(draw, (left, first + number * line_distance), line, text_size)


def _with_boxes(pixels: Tensor, boxes: Sequence[MarkedBox], color: Color) -> Any:
    """Draw an image (C, H, W) with values in 0..1 at a legible size, with its boxes and labels."""
    from PIL import Image as Picture
    from PIL import ImageDraw

    array = (pixels[:3].expand(3, -1, -1).float().cpu().clamp(0, 1) * 255).round().byte()
    picture = Picture.fromarray(array.permute(1, 2, 0).contiguous().numpy())
    zoom = _zoom(max(picture.size))
    size = (max(1, round(picture.width * zoom)), max(1, round(picture.height * zoom)))
    enlarges = zoom >= 1
    method = Picture.Resampling.NEAREST if enlarges else Picture.Resampling.BILINEAR
    picture = picture.resize(size, method)
    areas = [_enlarged(box.corners, zoom) for box in boxes]
    colors = [color if box.counted else UNCOUNTED for box in boxes]
    draw = ImageDraw.Draw(picture)
    for area, box_color in zip(areas, colors, strict=True):
        draw.rectangle(area, outline=box_color, width=_line_width(picture.width))
    texts = [box.text for box in boxes]
    _draw_labels(draw, texts, areas, colors, picture.size)
    return picture


def _draw_labels(
    draw: Any,
    texts: Sequence[str],
    areas: Sequence[Area],
    colors: Sequence[Color],
    picture_size: tuple[int, int],
) -> None:
    """Draw the label of each box, unless it would cover another label everywhere."""
    text_size = _text_size(picture_size[0])
    line_width = _line_width(picture_size[0])
    max_width = round(MAX_LABEL_WIDTH * picture_size[0])
    small = [area for area in areas if area[2] - area[0] < MIN_UNHIDDEN_WIDTH * text_size]
    labels: list[Area] = []
    for full_text, area, color in zip(texts, areas, colors, strict=True):
        text = cut_to(drawable(full_text), max_width, text_size)
        other_small = [other for other in small if other != area]
        place = _place_for(text, area, picture_size, labels, other_small)
        if place is None or not text:
            continue
        draw.rectangle(place, fill=color)
        draw_text(draw, (place[0] + line_width, (place[1] + place[3]) / 2), text, text_size)
        labels.append(place)


def _place_for(
    text: str,
    area: Area,
    picture_size: tuple[int, int],
    labels: Sequence[Area],
    small: Sequence[Area],
) -> Area | None:
    """Return a place for the label of a box in a picture; None if there is no room.

    `area` has the corners of the box, `picture_size` is width and height. The label overlaps none
    of the `labels` that are drawn; if possible, it also keeps off the inside of its own box and off
    the `small` boxes.
    """
    text_size = _text_size(picture_size[0])
    line_width = _line_width(picture_size[0])
    width = text_width(text, text_size) + 2 * line_width
    height = LINE_HEIGHT * text_size
    beside = _beside(area, width, height, line_width)
    possible = [_within(place, picture_size) for place in beside]
    possible = [place for place in possible if not _overlaps_any(place, labels)]
    x1, y1, x2, y2 = area
    inside = (x1 + line_width, y1 + line_width, x2 - line_width, y2 - line_width)
    preferred = [place for place in possible if not _overlaps_any(place, [inside, *small])]
    return next(iter((*preferred, *possible)), None)


def _beside(area: Area, width: float, height: float, line_width: int) -> list[Area]:
    """Return the places of a label beside a box: above it, below it, then at its sides."""
    x1, y1, x2, y2 = area
    corners = [
        (x1, y1 - height + line_width),
        (x2 - width, y1 - height + line_width),
        (x1, y2 - line_width),
        (x2 - width, y2 - line_width),
        (x2 - line_width, y1),
        (x1 - width + line_width, y1),
    ]
    return [(x, y, x + width, y + height) for x, y in corners]


def _within(place: Area, picture_size: tuple[int, int]) -> Area:
    """Return `place`, moved into a picture of this width and height."""
    x1, y1, x2, y2 = place
    right = max(0.0, -x1) - max(0.0, x2 - picture_size[0] + 1)
    down = max(0.0, -y1) - max(0.0, y2 - picture_size[1] + 1)
    return x1 + right, y1 + down, x2 + right, y2 + down


def _overlaps_any(place: Area, others: Sequence[Area]) -> bool:
    """Return whether `place` overlaps any of the others."""
    return any(_overlaps(place, other) for other in others)


def _overlaps(a: Area, b: Area) -> bool:
    """Return whether two areas share pixels."""
    wide = min(a[2], b[2]) > max(a[0], b[0])
    high = min(a[3], b[3]) > max(a[1], b[1])
    return wide and high


def _zoom(side: int) -> float:
    """Return the factor by which an image is enlarged (a whole number) or, if large, reduced."""
    if side > TARGET_SIDE:
        return TARGET_SIDE / side
    return max(1, round(TARGET_SIDE / side))


def _enlarged(corners: Area, zoom: float) -> Area:
    """Return the corners of a box in an image enlarged by `zoom`, at least one pixel apart."""
    x1, y1, x2, y2 = (zoom * corner for corner in corners)
    return x1, y1, max(x1 + 1, x2), max(y1 + 1, y2)


def _text_size(width: int) -> int:
    """Return the height of letters in a picture of this width, in pixels."""
    return max(10, round(TEXT_SIZE * width))


def _line_width(width: int) -> int:
    """Return the width of a box's line in a picture of this width, in pixels."""
    return max(2, round(LINE_WIDTH * width))
