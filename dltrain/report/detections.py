"""Pictures of images with boxes around objects, one below the other, with a title and a name for
each object.

Text and lines are a share of the picture's width, so that they can be read in TensorBoard, which
shows it about 350 pixels wide.
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
TARGET_SIDE = (
    704  # pixels that the longer side of an image is brought to, as far as whole multiples go
)
TEXT_SHARE = 13 / 350  # of the picture's width, that a letter is high
LINE_SHARE = 2.5 / 350  # of the picture's width, that a box's line is wide
LINE_HEIGHT = 1.3  # of a text's size
SMALL_BOX = 3  # letters' heights, up to which a box is so small that a text would hide it
MAX_TITLE_LINES = 2
MAX_TEXT_SHARE = 0.6  # of the picture's width, that an object's text may take
COLORS: dict[str, Color] = {"true": (64, 210, 110), "predicted": (255, 150, 30)}
UNCOUNTED: Color = (190, 190, 190)  # of objects that are not scored
INK: Color = (0, 0, 0)


def boxed_pictures(image: Image) -> Pixels:
    """Draw the pictures of an `Image` with their boxes, each below its caption beside a patch of
    the boxes' color.

    An object's text stands on a filled ground outside its box, above it if there is room; a text
    that could only stand on another one is left out.
    """
    from PIL import Image as Picture
    from PIL import ImageDraw

    parts = [
        _with_boxes(pixels, boxes.items, COLORS[boxes.kind]) for pixels, boxes in _pairs(image)
    ]
    width = parts[0].width
    size, bars = _text_size(width), []
    for number, boxes in enumerate(image.boxes):
        caption = image.captions[number] if number < len(image.captions) else ""
        bars.append(
            (
                wrapped(caption, width - 3 * size, size, MAX_TITLE_LINES) if caption else [],
                COLORS[boxes.kind],
            )
        )
    heights = [round(LINE_HEIGHT * size * len(lines) + size * bool(lines)) for lines, _ in bars]
    canvas = Picture.new("RGB", (width, sum(heights) + sum(part.height for part in parts)), "white")
    draw, top = ImageDraw.Draw(canvas), 0
    for part, height, (lines, color) in zip(parts, heights, bars, strict=True):
        if lines:
            _draw_title(draw, top, height, lines, color, size)
        canvas.paste(part, (0, top + height))
        top += height + part.height
    return np.asarray(canvas)


def _pairs(image: Image) -> Any:
    return zip(image.pixels, image.boxes, strict=True)


def _draw_title(
    draw: Any, top: int, height: int, lines: Sequence[str], color: Color, size: int
) -> None:
    """Draw the lines of a title between `top` and `top` + `height`, beside a patch of the color
    that it names.
    """
    margin = size // 2
    draw.rectangle(
        (margin, top + margin, margin + size, top + margin + size), fill=color, outline=INK
    )
    for number, line in enumerate(lines):
        middle = top + height / 2 + (number - (len(lines) - 1) / 2) * LINE_HEIGHT * size
        draw_text(draw, (3 * margin + size, middle), line, size)


def _with_boxes(pixels: Tensor, boxes: Sequence[MarkedBox], color: Color) -> Any:
    """Return an image (C, H, W) in 0..1, brought to a legible size, with the boxes of objects and
    their texts.
    """
    from PIL import Image as Picture
    from PIL import ImageDraw

    array = (pixels[:3].expand(3, -1, -1).float().cpu().clamp(0, 1) * 255).round().byte()
    picture = Picture.fromarray(array.permute(1, 2, 0).contiguous().numpy())
    zoom = _zoom(max(picture.size))
    size = (max(1, round(picture.width * zoom)), max(1, round(picture.height * zoom)))
    picture = picture.resize(
        size, Picture.Resampling.NEAREST if zoom >= 1 else Picture.Resampling.BILINEAR
    )
    draw = ImageDraw.Draw(picture)
    letter, line = _text_size(picture.width), _line_width(picture.width)
    areas = [_enlarged(box.corners, zoom) for box in boxes]
    for area, box in zip(areas, boxes, strict=True):
        draw.rectangle(area, outline=color if box.counted else UNCOUNTED, width=line)
    small = [area for area in areas if area[2] - area[0] < SMALL_BOX * letter]
    labels: list[Area] = []
    for area, box in zip(areas, boxes, strict=True):
        text = cut_to(drawable(box.text), round(MAX_TEXT_SHARE * picture.width), letter)
        place = _place_for(
            text, area, picture.size, labels, [other for other in small if other != area]
        )
        if place is not None and text:
            draw.rectangle(place, fill=color if box.counted else UNCOUNTED)
            draw_text(draw, (place[0] + line, (place[1] + place[3]) / 2), text, letter)
            labels.append(place)
    return picture


def _place_for(
    text: str, area: Area, picture: tuple[int, int], labels: Sequence[Area], small: Sequence[Area]
) -> Area | None:
    """Return where the text of a box with the corners `area` may stand in a picture of width and
    height `picture`.

    It hides no other of the `labels`, and none of the `small` boxes if that can be avoided. None if
    there is no such place.
    """
    size, line = _text_size(picture[0]), _line_width(picture[0])
    width, height = text_width(text, size) + 2 * line, LINE_HEIGHT * size
    places = [_within(place, picture) for place in _beside(area, width, height, line)]
    places = [place for place in places if not _hides(place, labels)]
    inner = (area[0] + line, area[1] + line, area[2] - line, area[3] - line)
    best = [place for place in places if not _hides(place, [inner, *small])]
    return next(iter((*best, *places)), None)


def _beside(area: Area, width: float, height: float, line: int) -> list[Area]:
    """Return the places of a text of `width` and `height` beside a box: above it, below it, at its
    sides.
    """
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
    """Return whether `place` shares pixels with any of the others."""
    x1, y1, x2, y2 = place
    return any(min(x2, o[2]) > max(x1, o[0]) and min(y2, o[3]) > max(y1, o[1]) for o in others)


def _zoom(side: int) -> float:
    """Return by how much an image is enlarged, a whole number, or made smaller if it is large."""
    return TARGET_SIDE / side if side > TARGET_SIDE else max(1, round(TARGET_SIDE / side))


def _enlarged(corners: Area, zoom: float) -> Area:
    """Return the corners of a box in an image that is `zoom` times as large, at least a pixel
    apart.
    """
    x1, y1, x2, y2 = (zoom * corner for corner in corners)
    return x1, y1, max(x1 + 1, x2), max(y1 + 1, y2)


def _text_size(width: int) -> int:
    return max(10, round(TEXT_SHARE * width))


def _line_width(width: int) -> int:
    return max(2, round(LINE_SHARE * width))
