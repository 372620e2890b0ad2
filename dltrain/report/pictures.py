"""Pictures as arrays (H, W, 3) of bytes: grids of images with captions, and heat maps of tables.

TensorBoard shows a picture about 350 pixels wide, whatever its size. The text of each is therefore
a share of its width, so that it can be read there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dltrain.report.detections import boxed_pictures
from dltrain.report.fonts import (
    cut_to,
    draw_text,
    drawable,
    text_width,
    unabridged,
    wrapped,
)
from dltrain.types import Image, Table, shortened

Pixels = NDArray[np.uint8]
MARGIN = 4  # pixels between images
CARD_WIDTH = 350  # pixels of a picture in TensorBoard
CARD_TEXT = 11  # pixels of a text there
MIN_WIDTH = 2 * CARD_WIDTH  # of a grid: TensorBoard leaves out pixels, so text needs twice its size
MIN_SIDE = 84  # pixels of an image's longer side, as far as whole multiples go
MAX_SIDE = 256  # an image of a larger one is made smaller
MIN_SHORT_SIDE = 6  # pixels, so that an image of one row is seen
LINE_HEIGHT = 1.25  # of a text's size
MAX_CAPTION_LINES = 3
COLUMNS = (8, 6, 4, 3)  # of a grid, the first in which captions fit
NOT_A_NUMBER = (255, 0, 255)  # color of a pixel

MIN_CELL, MAX_CELL = 12, 66  # pixels of a table's cell
TABLE_WIDTH = 640  # pixels of all cells, as far as cells may be so wide
MAX_NAMED = 130  # rows, or columns, above which they have no names
MIN_UNNAMED_CELL = 2  # pixels
FEW_COLUMNS = 8  # of a table whose cells are as wide as its columns' names
MAX_WIDENED = 2  # times the width of a cell that such a name may have
MIN_TEXT = 11  # pixels
MIN_NUMBER = 9  # pixels; a smaller number is left out
DARK = 420  # sum of a color's three parts, under which it is written on in white
BLUE, RED = (33, 78, 190), (200, 40, 30)
FAINTEST = 0.2  # color of the smallest error that is not zero
LINE_COLOR = (220, 220, 220)


def grid(
    pixels: Tensor,
    captions: Sequence[str] = (),
    columns: int | None = None,
    min_side: int = MIN_SIDE,
    title: str = "",
    scale: tuple[str, str] | None = None,
) -> Pixels:
    """Draw images (N, C, H, W) in 0..1 side by side, each over its caption if any.

    Images are enlarged to about `min_side` pixels. Three channels are shown in color; of any other
    number of channels the first is shown in gray. Without `columns`, as many columns are used as
    leave room for the captions. The `title` is drawn above the images, and the `scale` below them:
    the meaning of the lowest and the highest color of a heat map.
    """
    from PIL import Image as Picture
    from PIL import ImageDraw

    images = _as_bytes(pixels)
    texts = captions[: len(images)]
    if columns is None:
        columns = _columns_for(texts, *_drawn_size(images, min_side))
        columns = max(1, min(columns, len(images)))
        min_side = max(min_side, min(MAX_SIDE, MIN_WIDTH // columns - MARGIN))
    columns = max(1, min(columns, len(images)))
    pictures = [_enlarged(array, min_side) for array in images]
    layout = GridLayout.of(pictures, texts, columns, title)
    scale_height = 2 * layout.line_height + MARGIN if scale else 0
    canvas = Picture.new("RGB", (layout.width, layout.bottom + scale_height), "white")
    draw = ImageDraw.Draw(canvas)
    for k, text in enumerate(layout.title_lines):
        draw_text(draw, (0, (k + 0.5) * layout.line_height), text, layout.text_size)
    for i, picture in enumerate(pictures):
        left, top = layout.corner(i)
        canvas.paste(picture, (left + (layout.side - picture.width) // 2, top))
    for i, lines in enumerate(layout.caption_lines):
        _draw_caption(draw, lines, layout, *layout.corner(i))
    if scale:
        _draw_scale(canvas, draw, layout.bottom, layout.text_size, scale)
    return np.asarray(canvas)


@dataclass(frozen=True)
class GridLayout:
    """The places of the parts of a grid of images, in pixels."""

    columns: int
    side: int  # width of a cell without its margin
    height: int  # of the highest image
    cell_height: int  # with margin and caption
    text_size: int
    line_height: int
    title_lines: list[str]
    caption_lines: list[list[str]]
    top: int  # where the first row begins, below the title
    bottom: int  # where the last row ends

    @classmethod
    def of(
        cls, pictures: Sequence[Any], captions: Sequence[str], columns: int, title: str
    ) -> GridLayout:
        """Return the layout for PIL images of any sizes in so many columns."""
        side = max((picture.width for picture in pictures), default=MIN_SIDE)
        height = max((picture.height for picture in pictures), default=MIN_SIDE)
        width = columns * (side + MARGIN)
        size = _text_size(width)
        line = round(LINE_HEIGHT * size)
        caption_lines = [wrapped(text, side, size, MAX_CAPTION_LINES) for text in captions]
        title_lines = unabridged(title, width, size) if title else []
        cell_height = height + MARGIN
        if caption_lines:
            cell_height += line * max(map(len, caption_lines)) + MARGIN
        top = len(title_lines) * line
        if title_lines:
            top += MARGIN
        rows = math.ceil(len(pictures) / columns)
        return cls(
            columns=columns,
            side=side,
            height=height,
            cell_height=cell_height,
            text_size=size,
            line_height=line,
            title_lines=title_lines,
            caption_lines=caption_lines,
            top=top,
            bottom=top + rows * cell_height,
        )

    @property
    def width(self) -> int:
        """The width of the whole grid."""
        return self.columns * (self.side + MARGIN)

    def corner(self, index: int) -> tuple[int, int]:
        """Return left and top of the cell of the image with this index."""
        row, column = divmod(index, self.columns)
        return column * (self.side + MARGIN), self.top + row * self.cell_height


def _draw_caption(draw: Any, lines: Sequence[str], layout: GridLayout, left: int, top: int) -> None:
    """Draw the lines of a caption below the image whose cell begins at `left` and `top`."""
    first = top + layout.height + MARGIN
    for k, text in enumerate(lines):
        middle = (left + layout.side / 2, first + (k + 0.5) * layout.line_height)
        draw_text(draw, middle, text, layout.text_size, anchor="m")


def image_grid(image: Image) -> Pixels:
    """Draw an `Image` as a grid, or one picture below the other where they have boxes."""
    if image.boxes:
        return boxed_pictures(image)
    return grid(image.pixels, image.captions, title=image.title, scale=image.scale)


def _as_bytes(pixels: Tensor) -> NDArray[np.uint8]:
    """Return images (N, C, H, W) in 0..1 as bytes (N, H, W, 3), with NaN in magenta."""
    channels = pixels.shape[1]
    if channels != 3:
        pixels = pixels[:, :1].expand(-1, 3, -1, -1)
    values = pixels.detach().float().cpu().permute(0, 2, 3, 1).numpy()
    shown = (np.nan_to_num(values).clip(0, 1) * 255).astype(np.uint8)
    shown[np.isnan(values).any(axis=3)] = NOT_A_NUMBER
    return shown


def _drawn_size(images: NDArray[np.uint8], min_side: int) -> tuple[int, int]:
    """Return how wide and high one of the images (N, H, W, 3), which are all alike, is drawn."""
    if not len(images):
        return MIN_SIDE, MIN_SIDE
    picture = _enlarged(images[0], min_side)
    return int(picture.width), int(picture.height)


def _enlarged(array: NDArray[np.uint8], min_side: int) -> Any:
    """Return bytes (H, W, 3) as a picture; its longer side has `min_side` to `MAX_SIDE` pixels."""
    from PIL import Image as Picture

    height, width = array.shape[:2]
    longer = max(height, width)
    largest = max(MAX_SIDE, min_side)
    picture = Picture.fromarray(np.ascontiguousarray(array))
    if longer > largest:
        sides = (max(MIN_SHORT_SIDE, round(side * largest / longer)) for side in (width, height))
        return picture.resize(tuple(sides), Picture.Resampling.BOX)
    if longer * 2 <= min_side:
        zoom = math.ceil(min_side / longer)
    else:
        zoom = max(1, round(min_side / longer))
    sides = (max(MIN_SHORT_SIDE, side * zoom) for side in (width, height))
    return picture.resize(tuple(sides), Picture.Resampling.NEAREST)


def _text_size(width: int) -> int:
    """Return the size of a text that can be read in TensorBoard, in a picture of this width."""
    return max(MIN_TEXT, round(CARD_TEXT * width / CARD_WIDTH))


def _columns_for(captions: Sequence[str], width: int, height: int) -> int:
    """Return the most columns in which every caption of images of this size has room.

    Wide images, such as pairs, get fewer, so that they are no lower than others.
    """
    if not captions:
        return COLUMNS[0]
    for columns in COLUMNS[:-1]:
        size = _text_size(columns * (width + MARGIN))
        high_enough = columns * width <= COLUMNS[0] * height
        if high_enough and all(_fits(caption, width, size) for caption in captions):
            return columns
    return COLUMNS[-1]


def _fits(caption: str, room: int, size: int) -> bool:
    """Tell if the caption's lines, or its words in at most so many lines, are not cut off."""
    text = drawable(caption)
    own_lines = caption.split("\n")
    lines = wrapped(caption, room, size, MAX_CAPTION_LINES)
    if len(own_lines) > 1:
        widths = [text_width(drawable(line), size) for line in own_lines]
        return max(widths) <= room
    return " ".join(lines) == " ".join(text.split())


def heat_colors(heat: NDArray[Any]) -> NDArray[Any]:
    """Return colors (..., 3) in 0..1 for numbers in 0..1: blue, green, yellow, red."""
    middles = np.array([3.0, 2.0, 1.0])
    return (1.5 - np.abs(4 * heat[..., None] - middles)).clip(0, 1)


def _draw_scale(canvas: Any, draw: Any, top: int, size: int, ends: tuple[str, str]) -> None:
    """Draw the color scale from `top` on, with what its lowest and highest colors mean."""
    from PIL import Image as Picture

    texts = [drawable(end) for end in ends]
    widths = [text_width(text, size) + 2 * MARGIN for text in texts]
    middle = top + MARGIN + 0.75 * size
    room = canvas.width - sum(widths)
    bar = max(room, canvas.width // 4)
    colors = (heat_colors(np.linspace(0, 1, bar)) * 255).astype(np.uint8)
    strip = np.ascontiguousarray(np.broadcast_to(colors, (size, bar, 3)))
    if room >= canvas.width // 4:
        canvas.paste(Picture.fromarray(strip), (widths[0], round(middle - size / 2)))
        draw_text(draw, (MARGIN, middle), texts[0], size)
        draw_text(draw, (canvas.width - MARGIN, middle), texts[1], size, anchor="r")
        return
    wide = np.repeat(strip, -(-canvas.width // bar), axis=1)
    strip = np.ascontiguousarray(wide[: size // 2, : canvas.width])
    canvas.paste(Picture.fromarray(strip), (0, top + MARGIN))
    below = middle + size
    half = canvas.width // 2 - MARGIN
    draw_text(draw, (0, below), cut_to(texts[0], half, size), size)
    draw_text(draw, (canvas.width, below), cut_to(texts[1], half, size), size, anchor="r")


def heat_map(table: Table) -> Pixels:
    """Draw a table of numbers in colored cells.

    Whole numbers are counts, colored by their share of the row's sum. If rows and columns have the
    same names, counts off the diagonal are errors and red. Other numbers are scores: columns
    within 0..1 are colored by the score, other columns relative to their maximum, `plain` columns
    not at all. Names are left out if there are very many, values if a cell is too small.
    """
    from PIL import Image as Picture
    from PIL import ImageDraw

    layout = TableLayout.of(table)
    canvas = Picture.new("RGB", layout.size, "white")
    draw = ImageDraw.Draw(canvas)
    for i, title in enumerate(_titles(table)):
        draw_text(draw, (2, (i + 0.5) * LINE_HEIGHT * layout.text), title, layout.text)
    _draw_cells(draw, table, layout)
    for r, name in enumerate(layout.row_names):
        place = (layout.left - MARGIN, layout.top + (r + 0.5) * layout.height)
        draw_text(draw, place, name, layout.text, anchor="r")
    for c, name in enumerate(layout.column_names):
        middle = layout.left + (c + 0.5) * layout.width
        if layout.upright:
            _draw_upright(canvas, (middle, layout.top - MARGIN), name, layout.text)
        else:
            above = (middle, layout.top - MARGIN - layout.text / 2)
            draw_text(draw, above, name, layout.text, anchor="m")
    return np.asarray(canvas)


@dataclass(frozen=True)
class TableLayout:
    """The places of the parts of a drawn table, in pixels: its cells begin at `left` and `top`."""

    width: int  # of a cell
    height: int  # of a cell
    text: int  # size
    row_names: list[str]
    column_names: list[str]
    upright: bool  # the names of the columns
    left: int
    top: int
    size: tuple[int, int]

    @classmethod
    def of(cls, table: Table) -> TableLayout:
        """Return the layout in which names and numbers of `table` have room."""
        rows, columns = table.values.shape
        width = min(MAX_CELL, max(MIN_CELL, TABLE_WIDTH // columns))
        height = min(width, max(MIN_CELL, TABLE_WIDTH // rows))
        text = max(MIN_TEXT, min(_text_size(width * columns), height - MARGIN))
        row_names = _names(table.rows)
        column_names = _names(table.columns)
        longest = _widest(column_names, text)
        if columns <= FEW_COLUMNS and longest <= MAX_WIDENED * width:
            width = max(width, longest + 3 * MARGIN)
        if not row_names:
            height = max(MIN_UNNAMED_CELL, TABLE_WIDTH // rows)
        if not column_names:
            width = max(MIN_UNNAMED_CELL, TABLE_WIDTH // columns)
        upright = longest > width - MARGIN
        left = _widest(row_names, text) + 3 * MARGIN
        names_height = longest if upright else text
        top = round(len(_titles(table)) * LINE_HEIGHT * text) + names_height + 3 * MARGIN
        titles = _widest(_titles(table), text) + MARGIN
        size = (max(left + columns * width + 1, titles), top + rows * height + 1)
        return cls(width, height, text, row_names, column_names, upright, left, top, size)


def _widest(texts: Sequence[str], size: int) -> int:
    """Return the width in pixels of the longest text; 0 without texts."""
    return max((text_width(text, size) for text in texts), default=0)


def _names(names: Sequence[str]) -> list[str]:
    """Return the names of rows or columns as they are written; none if there are too many."""
    if len(names) > MAX_NAMED:
        return []
    return [drawable(shortened(name)) for name in names]


def _draw_cells(draw: Any, table: Table, layout: TableLayout) -> None:
    """Draw the cells with their colors and numbers; a count of zero is not written."""
    values: NDArray[Any] = table.values.numpy()
    counts = np.issubdtype(values.dtype, np.integer)
    texts = _texts(values)
    has_lines = min(layout.width, layout.height) > MARGIN
    outline = LINE_COLOR if has_lines else None
    largest = min(layout.text, layout.height - MARGIN)
    for r, row in enumerate(_cell_colors(table, values)):
        for c, color in enumerate(row):
            x = layout.left + c * layout.width
            y = layout.top + r * layout.height
            draw.rectangle((x, y, x + layout.width, y + layout.height), fill=color, outline=outline)
            text = texts[r][c]
            size = _fitting_size(text, layout.width - MARGIN, largest)
            is_blank = counts and not values[r, c]
            if size and not is_blank:
                middle = (x + layout.width / 2, y + layout.height / 2)
                draw_text(draw, middle, text, size, _ink_on(color), anchor="m")


def _ink_on(color: tuple[int, int, int]) -> str:
    """Return the color of a text on a cell of this color."""
    return "white" if sum(color) < DARK else "black"


def _texts(values: NDArray[Any]) -> list[list[str]]:
    """Return the numbers (R, C) as they are written: those of a column alike."""
    columns = []
    for column in values.T:
        known = column[np.isfinite(column)]
        only_ones = bool(len(known)) and bool((np.abs(known) == 1).all())
        whole = bool((known == np.round(known)).all()) and not only_ones
        columns.append([_figure(value, whole) for value in column])
    return [list(row) for row in zip(*columns, strict=True)]


def _titles(table: Table) -> list[str]:
    """Return the lines above a table: titles of columns and rows, and what is left out."""
    titles = ["", ""]
    if table.column_title:
        titles[0] = f"across: {table.column_title}"
    if table.row_title:
        titles[1] = f"down: {table.row_title}"
    if table.note:
        titles.append(table.note)
    return [drawable(title) for title in titles]


def _fitting_size(text: str, room: int, largest: int) -> int:
    """Return the largest size in which `text` has room; 0 where that cannot be read."""
    for size in range(largest, MIN_NUMBER - 1, -1):
        if text_width(text, size) <= room:
            return size
    return 0


def _draw_upright(canvas: Any, place: tuple[float, float], text: str, size: int) -> None:
    """Draw `text` from the bottom up; `place` is where its middle begins."""
    from PIL import Image as Picture
    from PIL import ImageDraw

    line = round(LINE_HEIGHT * size)
    strip = Picture.new("RGB", (max(1, text_width(text, size)), line), "white")
    draw_text(ImageDraw.Draw(strip), (0, line / 2), text, size)
    turned = strip.transpose(Picture.Transpose.ROTATE_90)
    canvas.paste(turned, (round(place[0] - line / 2), round(place[1] - turned.height)))


def _cell_colors(table: Table, values: NDArray[Any]) -> list[list[tuple[int, int, int]]]:
    """Return the color of each cell."""
    shares = _shares(table, values)
    errors_are_red = table.rows == table.columns and np.issubdtype(values.dtype, np.integer)
    colors = []
    for r, row in enumerate(shares):
        line = [_mixed(BLUE, share) for share in row]
        if errors_are_red:
            line = [_error_color(share) for share in row]
            line[r] = _mixed(BLUE, row[r])
        colors.append(line)
    return colors


def _error_color(share: float) -> tuple[int, int, int]:
    """Return the color of a number of errors, given as its share of the row: white for none."""
    if share <= 0:
        return _mixed(RED, 0.0)
    return _mixed(RED, FAINTEST + (1 - FAINTEST) * share**0.5)


def _shares(table: Table, values: NDArray[Any]) -> NDArray[Any]:
    """Return how strongly each cell is colored, in 0..1."""
    known = np.where(np.isfinite(values), values, 0).astype(float)
    if np.issubdtype(values.dtype, np.integer):
        whole = known.sum(axis=1, keepdims=True)
    else:
        highest = known.max(axis=0, keepdims=True, initial=0)
        whole = np.where(highest <= 1, 1.0, highest)
    shares: NDArray[Any] = (known / np.where(whole > 0, whole, 1)).clip(0, 1)
    shares[:, [name in table.plain for name in table.columns]] = 0
    return shares


def _mixed(color: tuple[int, int, int], strength: float) -> tuple[int, int, int]:
    """Return `color` mixed with white."""
    red, green, blue = (round(255 - strength * (255 - part)) for part in color)
    return red, green, blue


def _figure(value: float, whole: bool) -> str:
    """Format a number with three decimals, or as a `whole` number; a dash for NaN."""
    if math.isnan(value):
        return "-"
    if math.isinf(value) or whole:
        return f"{value:.0f}"
    if abs(value) >= 0.001 or value == 0:
        return f"{value:.3f}"
    return f"{value:.1e}"
