"""Pictures of images with boxes around objects and a name for each, legible where a picture is shown small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

TARGET_SIDE = 704  # pixels that the longer side of an image is enlarged to, about
LETTERS_A_WIDTH = 50  # what a line of text across the picture can hold, about: 7 pixels each at 350 pixels' width
SMALL_LETTERS = 3  # letters' heights, up to which a box is so small that a text would hide it
LINES_A_WIDTH = 140  # lines of a box side by side across the picture
TALLEST = "bg"  # letters that are as high and as low as any
Color = tuple[int, int, int]
Area = tuple[float, float, float, float]  # left, top, right, bottom
TRUE: Color = (64, 210, 110)
PREDICTED: Color = (255, 150, 30)
UNCOUNTED: Color = (190, 190, 190)  # objects that are not scored
INK: Color = (0, 0, 0)
PAPER: Color = (255, 255, 255)


@dataclass(frozen=True)
class LabelledBox:
    """Corners x1, y1, x2, y2 in pixels of the image, the text beside the box, and the color of both."""

    corners: Area
    text: str
    color: Color


def draw_boxes(pixels: Tensor, boxes: Sequence[LabelledBox]) -> Tensor:
    """Return an image (C, H, W) of bytes, enlarged if it is small, with boxes in it: (3, H', W') in 0..1.

    Each text stands on a filled ground outside its box, above it if there is room. A text that could only stand on
    another one is left out.
    """
    from PIL import Image, ImageDraw

    _, height, width = pixels.shape
    zoom = max(1, round(TARGET_SIDE / max(height, width)))
    content = pixels.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy().tobytes()
    picture = Image.frombytes("RGB", (width, height), content)
    picture = picture.resize((width * zoom, height * zoom), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(picture)
    scaled = [(as_area(box.corners, zoom), box) for box in boxes]
    line = line_width(picture.width)
    for area, box in scaled:
        draw.rectangle(area, outline=box.color, width=line)
    small = [area for area, _ in scaled if area[2] - area[0] < SMALL_LETTERS * font_size(picture.width)]
    labels: list[Area] = []
    for area, box in scaled:
        labels += write_label(draw, picture.size, area, box, labels, small)
    return as_tensor(picture)


def with_title(picture: Tensor, title: str, color: Color) -> Tensor:
    """Return a picture (3, H, W) in 0..1 below a line of text with a patch of `color`, which says what has that color."""
    from PIL import Image, ImageDraw

    width = picture.shape[2]
    height, text_font = 2 * font_size(width), font(width)
    bar = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(bar)
    margin = height // 4
    draw.rectangle((margin, margin, height - margin, height - margin), fill=color, outline=INK)
    draw.text((height, height / 2), title, fill=INK, font=text_font, anchor="lm")
    return torch.cat([as_tensor(bar), picture], dim=1)


def write_label(
    draw: Any, size: tuple[int, int], area: Area, box: LabelledBox, labels: Sequence[Area], small: Sequence[Area]
) -> list[Area]:
    """Write a box's text beside it, in a picture of width and height `size`; return its place, if there is one.

    It hides no other of the `labels`, and none of the `small` boxes if that can be avoided.
    """
    text_font, line = font(size[0]), line_width(size[0])
    left, _, right, _ = draw.textbbox((0, 0), box.text, font=text_font)
    _, top, _, bottom = draw.textbbox((0, 0), TALLEST, font=text_font)
    width, height = right - left + 2 * line, bottom - top + 2 * line
    places = [within(place, size) for place in places_beside(area, width, height, line)]
    places = [place for place in places if not hides(place, labels)]
    others = [other for other in small if other != area]
    best = [place for place in places if not hides(place, [shrunk(area, line), *others])]
    place = next(iter((*best, *places)), None)
    if place is None:
        return []
    draw.rectangle(place, fill=box.color)
    draw.text((place[0] + line - left, place[1] + line - top), box.text, fill=INK, font=text_font)
    return [place]


def places_beside(area: Area, width: float, height: float, line: int) -> list[Area]:
    """Return where a text of `width` and `height` may stand beside a box: above it, below it, at its sides."""
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


def within(place: Area, size: tuple[int, int]) -> Area:
    """Return `place`, moved into a picture of width and height `size`."""
    x1, y1, x2, y2 = place
    right = max(0.0, -x1) - max(0.0, x2 - size[0] + 1)
    down = max(0.0, -y1) - max(0.0, y2 - size[1] + 1)
    return x1 + right, y1 + down, x2 + right, y2 + down


def hides(place: Area, others: Sequence[Area]) -> bool:
    """Return whether `place` shares pixels with any of the others."""
    x1, y1, x2, y2 = place
    return any(min(x2, o[2]) > max(x1, o[0]) and min(y2, o[3]) > max(y1, o[1]) for o in others)


def shrunk(area: Area, by: float) -> Area:
    return area[0] + by, area[1] + by, area[2] - by, area[3] - by


def as_area(corners: Area, zoom: int) -> Area:
    """Return corners in pixels of the enlarged image, at least a pixel apart."""
    x1, y1, x2, y2 = (zoom * corner for corner in corners)
    return x1, y1, max(x1 + 1, x2), max(y1 + 1, y2)


def font_size(width: int) -> int:
    """Return the height in pixels of letters that are legible however small a picture of `width` is shown."""
    return max(11, round(2 * width / LETTERS_A_WIDTH))


def font(width: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(font_size(width))


def line_width(width: int) -> int:
    return max(2, round(width / LINES_A_WIDTH))


def as_tensor(picture: Any) -> Tensor:
    """Return an RGB picture of PIL's as (3, H, W) in 0..1."""
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return pixels.view(picture.height, picture.width, 3).permute(2, 0, 1).float() / 255
