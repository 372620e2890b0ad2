"""Pictures as arrays (H, W, 3) of bytes: grids of images with captions, and heat maps of tables."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dltrain.types import Table

Pixels = NDArray[np.uint8]
LINE = 12  # pixels of height of a line in PIL's built-in font
MARGIN = 4


def grid(pixels: Tensor, captions: tuple[str, ...], columns: int = 8, min_side: int = 72) -> Pixels:
    """Images (N, C, H, W) in 0..1 side by side, enlarged to at least `min_side` pixels, each over its caption.

    One channel is shown grey, three in colour, of any other number the first.
    """
    from PIL import Image, ImageDraw

    count, channels, height, width = pixels.shape
    zoom = max(1, min_side // max(height, width))
    shown = pixels if channels == 3 else pixels[:, :1].expand(-1, 3, -1, -1)
    arrays = shown.mul(255).byte().permute(0, 2, 3, 1).numpy()
    cell_w, cell_h = max(width * zoom, min_side) + MARGIN, height * zoom + 2 * LINE + MARGIN
    columns = min(columns, count)
    canvas = Image.new("RGB", (columns * cell_w, -(-count // columns) * cell_h), "white")
    draw = ImageDraw.Draw(canvas)
    for i, array in enumerate(arrays):
        left, top = (i % columns) * cell_w, (i // columns) * cell_h
        picture = Image.fromarray(array).resize((width * zoom, height * zoom), Image.Resampling.NEAREST)
        canvas.paste(picture, (left, top))
        caption = captions[i] if i < len(captions) else ""
        for line, text in enumerate(_wrap(caption, cell_w // 6)):
            draw.text((left + 1, top + height * zoom + line * LINE), text, fill="black")
    return np.asarray(canvas)


def _wrap(text: str, width: int) -> list[str]:
    """At most two lines of `width` characters."""
    words, lines = text.split(), [""]
    for word in words:
        if len(lines[-1]) + len(word) + 1 > width and lines[-1]:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return [line[:width] for line in lines[:2]]


def heat_map(table: Table, cell: int = 36, most_labels: int = 40) -> Pixels:
    """A table of counts, each row shaded by its share of the row's sum, with the counts written in small tables."""
    from PIL import Image, ImageDraw

    counts: NDArray[Any] = table.values.numpy()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    rows, columns = counts.shape
    labelled = max(rows, columns) <= most_labels
    cell = cell if labelled else max(2, 600 // max(rows, columns))
    left = 6 * max(map(len, table.rows)) + 2 * LINE if labelled else 2 * LINE
    top = 2 * LINE + (LINE if labelled else 0)
    canvas = Image.new("RGB", (left + columns * cell + 1, top + rows * cell + 1), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((left, 0), f"{table.column_title}  (rows: {table.row_title})", fill="black")
    for r in range(rows):
        if labelled:
            draw.text((2, top + r * cell + cell // 3), table.rows[r], fill="black")
        for c in range(columns):
            shade = 255 - int(215 * shares[r, c])
            x, y = left + c * cell, top + r * cell
            draw.rectangle((x, y, x + cell, y + cell), fill=(shade, shade, 255), outline=(220, 220, 220))
            if labelled and counts[r, c]:
                ink = "white" if shares[r, c] > 0.5 else "black"
                draw.text((x + 4, y + cell // 3), f"{counts[r, c]:g}", fill=ink)
    if labelled:
        for c in range(columns):
            draw.text((left + c * cell + 2, LINE + 4), table.columns[c][: cell // 6], fill="black")
    return np.asarray(canvas)
