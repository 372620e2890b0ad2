"""Pictures of images with boxes around their objects, one below the other.

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
TEXT_SHARE = 13 / 350  # height of a letter, relative to the picture's width
LINE_SHARE = 2.5 / 350  # width of a box's line, relative to the picture's width
LINE_HEIGHT = 1.3  # relative to the text's size
SMALL_BOX = 3  # letter heights; a text would hide a box that is narrower
MAX_TITLE_LINES = 2
MAX_TEXT_SHARE = 0.6  # width of an object's text, relative to the picture's width
COLORS: dict[str, Color] = {"true": (64, 210, 110), "predicted": (255, 150, 30)}
UNCOUNTED: Color = (190, 190, 190)  # of objects that are not scored
INK: Color = (0, 0, 0)


def boxed_pictures(image: Image) -> Pixels:
    """Draw the pictures of an `Image` with their boxes, each below its caption.

    A caption stands beside a patch in the color of its boxes. The text of an object has a filled
    background and stands outside its box, above it if there is room. A text that would cover
    another one is left out.
    """
    from PIL import Image as Picture
    from PIL import ImageDraw

    colors = [COLORS[boxes.kind] for boxes in image.boxes]
    parts = [
        _with_boxes(pixels, boxes.items, color)
        for pixels, boxes, color in zip(image.pixels, image.boxes, colors, strict=True)
    ]
    width = parts[0].width
    size = _text_size(width)
    titles = _titles(image, width, size)
    heights = [_title_height(lines, size) for lines in titles]
    total_height = sum(heights) + sum(part.height for part in parts)
    canvas = Picture.new("RGB", (width, total_height), "white")
    draw = ImageDraw.Draw(canvas)
    top = 0
    for part, height, lines, color in zip(parts, heights, titles, colors, strict=True):
        if lines:
            _draw_title(draw, top, height, lines, color, size)
        canvas.paste(part, (0, top + height))
        top += height + part.height
    return np.asarray(canvas)


def _titles(image: Image, width: int, size: int) -> list[list[str]]:
    """Return the title lines above each picture; none for a picture without a caption."""
    room = width - 3 * size
    titles: list[list[str]] = [[] for _ in image.boxes]
    for number, caption in enumerate(image.captions[: len(titles)]):
        if caption:
            titles[number] = wrapped(caption, room, size, MAX_TITLE_LINES)
    return titles


def _title_height(lines: Sequence[str], size: int) -> int:
    """Return the height of a title in pixels."""
    if not lines:
        return 0
    return round(LINE_HEIGHT * size * len(lines) + size)


def _draw_title(
    draw: Any, top: int, height: int, lines: Sequence[str], color: Color, size: int
) -> None:
    """Draw the lines of a title between `top` and `top` + `height`, beside a patch of color."""
    margin = size // 2
    draw.rectangle(
        (margin, top + margin, margin + size, top + margin + size), fill=color, outline=INK
    )
    for number, line in enumerate(lines):
        middle = top + height / 2 + (number - (len(lines) - 1) / 2) * LINE_HEIGHT * size
        draw_text(draw, (3 * margin + size, middle), line, size)


def _with_boxes(pixels: Tensor, boxes: Sequence[MarkedBox], color: Color) -> Any:
    """Draw an image (C, H, W) in 0..1 at a legible size, with boxes and texts of objects."""
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
    picture: tuple[int, int],
) -> None:
    """Draw the text of each box where it covers no other text; leave it out if it would."""
    letter = _text_size(picture[0])
    line = _line_width(picture[0])
    small = [area for area in areas if area[2] - area[0] < SMALL_BOX * letter]
    labels: list[Area] = []
    for full_text, area, color in zip(texts, areas, colors, strict=True):
        text = cut_to(drawable(full_text), round(MAX_TEXT_SHARE * picture[0]), letter)
        others = [other for other in small if other != area]
        place = _place_for(text, area, picture, labels, others)
        if place is None or not text:
            continue
        draw.rectangle(place, fill=color)
        draw_text(draw, (place[0] + line, (place[1] + place[3]) / 2), text, letter)
        labels.append(place)


def _place_for(
    text: str, area: Area, picture: tuple[int, int], labels: Sequence[Area], small: Sequence[Area]
) -> Area | None:
    """Return a place for the text of a box in a picture; None if there is no room.

    `area` has the corners of the box, `picture` is width and height. The text hides no other of the
    `labels`, and none of the `small` boxes if that can be avoided.
    """
    size = _text_size(picture[0])
    line = _line_width(picture[0])
    width = text_width(text, size) + 2 * line
    height = LINE_HEIGHT * size
    places = [_within(place, picture) for place in _beside(area, width, height, line)]
    places = [place for place in places if not _hides(place, labels)]
    inner = (area[0] + line, area[1] + line, area[2] - line, area[3] - line)
    best = [place for place in places if not _hides(place, [inner, *small])]
    return next(iter((*best, *places)), None)


def _beside(area: Area, width: float, height: float, line: int) -> list[Area]:
    """Return the possible places of a text beside a box: above it, below it, at its sides."""
    x1, y1, x2, y2 = area
    corners = [
        (x1, y1 - height + line),
        (x2 - width, y1 - height + line),
        (x1, y2 - line),
        (x2 - width, y2 - line),
        (x2 - line, y1),
        (x1 - width + line, y1),
    ]
    return [(x, y, x + width, y + height) for x, y in corners]


def _within(place: Area, picture: tuple[int, int]) -> Area:
    """Return `place`, moved into a picture of this width and height."""
    x1, y1, x2, y2 = place
    right = max(0.0, -x1) - max(0.0, x2 - picture[0] + 1)
    down = max(0.0, -y1) - max(0.0, y2 - picture[1] + 1)
    return x1 + right, y1 + down, x2 + right, y2 + down


def _hides(place: Area, others: Sequence[Area]) -> bool:
    """Return whether `place` overlaps any of the others."""
    return any(_overlap(place, other) for other in others)


def _overlap(a: Area, b: Area) -> bool:
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
    return max(10, round(TEXT_SHARE * width))


def _line_width(width: int) -> int:
    return max(2, round(LINE_SHARE * width))
