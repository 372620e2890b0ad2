"""Pictures as arrays (H, W, 3) of bytes: grids of images with captions, heat maps of tables, and plots of lines."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dltrain.types import Embedding, Grid, Plot, Table

Pixels = NDArray[np.uint8]
LINE, LETTER = 12, 6  # pixels of height of a line, and of width of a letter, in PIL's built-in font
MARGIN = 4
FEW = 40  # points that are told apart on a line
COLOURS = 10  # of matplotlib's lines, before they come again


def grid(pixels: Tensor, captions: tuple[str, ...], columns: int = 8, min_side: int = 72) -> Pixels:
    """Images (N, C, H, W) in 0..1 side by side, enlarged to at least `min_side` pixels, each over its caption if any.

    One channel is shown grey, three in colour, of any other number the first.
    """
    from PIL import Image, ImageDraw

    count, channels, height, width = pixels.shape
    zoom = max(1, min_side // max(height, width))
    shown = pixels if channels == 3 else pixels[:, :1].expand(-1, 3, -1, -1)
    arrays = shown.mul(255).byte().permute(0, 2, 3, 1).numpy()
    cell_w = max(width * zoom, min_side) + MARGIN
    written = [_wrap(caption, cell_w // LETTER) for caption in captions[:count]]
    cell_h = height * zoom + LINE * max((max(2, len(lines)) for lines in written), default=0) + MARGIN
    columns = min(columns, count)
    canvas = Image.new("RGB", (columns * cell_w, -(-count // columns) * cell_h), "white")
    draw = ImageDraw.Draw(canvas)
    for i, array in enumerate(arrays):
        left, top = (i % columns) * cell_w, (i // columns) * cell_h
        picture = Image.fromarray(array).resize((width * zoom, height * zoom), Image.Resampling.NEAREST)
        canvas.paste(picture, (left, top))
        for line, text in enumerate(written[i] if i < len(written) else ()):
            draw.text((left + 1, top + height * zoom + line * LINE), text, fill="black")
    return np.asarray(canvas)


def _wrap(text: str, width: int) -> list[str]:
    """Lines of at most `width` characters: its own where it has several, else at most two."""
    if "\n" in text:
        return [line[:width] for line in text.split("\n")]
    words, lines = text.split(), [""]
    for word in words:
        if len(lines[-1]) + len(word) + 1 > width and lines[-1]:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return [line[:width] for line in lines[:2]]


def heat_map(table: Table, cell: int = 36, most_labels: int = 40) -> Pixels:
    """A table with its values written in and shaded: counts by their share of the row's sum, figures of the column's top.

    Whole numbers are counts. Names and values are written where there are at most `most_labels` rows, or columns.
    """
    from PIL import Image, ImageDraw

    values: NDArray[Any] = table.values.numpy()
    counts = np.issubdtype(values.dtype, np.integer)
    known = np.nan_to_num(values)
    whole = known.sum(axis=1, keepdims=True) if counts else known.max(axis=0, keepdims=True)
    shares = (known / np.where(whole > 0, whole, 1)).clip(0, 1)
    rows, columns = values.shape
    name_rows, name_columns = rows <= most_labels, columns <= most_labels
    width = (
        max(cell, min(12, max(map(len, table.columns))) * LETTER + MARGIN) if name_columns else max(2, 600 // columns)
    )
    height = cell if name_rows else max(2, 600 // rows)
    left = LETTER * max(map(len, table.rows)) + 2 * LINE if name_rows else 2 * LINE
    top = 2 * LINE + (LINE if name_columns else 0)
    caption = f"{table.column_title}  (rows: {table.row_title})"
    across = left + columns * width + 1
    if table.note:
        caption = f"{caption}: {table.note}"
        across = max(across, left + LETTER * len(caption) + MARGIN)
    canvas = Image.new("RGB", (across, top + rows * height + 1), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((left, 0), caption, fill="black")
    for r in range(rows):
        if name_rows:
            draw.text((2, top + r * height + height // 3), table.rows[r], fill="black")
        for c in range(columns):
            shade = 255 - int(215 * shares[r, c])
            x, y = left + c * width, top + r * height
            draw.rectangle((x, y, x + width, y + height), fill=(shade, shade, 255), outline=(220, 220, 220))
            if name_rows and name_columns and (values[r, c] or not counts):
                ink = "white" if shares[r, c] > 0.5 else "black"
                draw.text((x + 4, y + height // 3), _figure(values[r, c]), fill=ink)
    if name_columns:
        for c in range(columns):
            draw.text((left + c * width + 2, LINE + 4), table.columns[c][: width // LETTER], fill="black")
    return np.asarray(canvas)


def _figure(value: float) -> str:
    """Whole numbers as they are, others to three digits, and a dash for what is not known."""
    if value != value:
        return "-"
    return f"{value:.0f}" if value == int(value) else f"{value:.3f}" if abs(value) >= 0.001 else f"{value:.1e}"


def points(value: Embedding, inches: tuple[float, float] = (7.0, 6.0)) -> Pixels:
    """Vectors as points in a plane, coloured by class: of more than two numbers each their first two principal components."""
    figure, axes = _diagram(inches)
    vectors = value.vectors.float().cpu().numpy()
    plane = vectors if vectors.shape[1] > 1 else np.repeat(vectors, 2, axis=1)
    if vectors.shape[1] > 2:
        centred = vectors - vectors.mean(axis=0)
        plane = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    labels = value.labels.cpu().numpy()
    for label, name in enumerate(value.names[:COLOURS] or ("",)):
        chosen = labels == label if value.names else slice(None)
        axes.scatter(plane[chosen, 0], plane[chosen, 1], s=4, label=name)
    if value.names:
        axes.legend(fontsize="small", markerscale=3)
    what = "the first two principal components" if vectors.shape[1] > 2 else "as they are"
    axes.set(title=f"vectors of {vectors.shape[1]} numbers, {what}")
    return _drawn(figure)


def plot(value: Plot, inches: tuple[float, float] = (7.0, 4.5)) -> Pixels:
    """The lines in one diagram with its titles and a legend; lines of few points show each point."""
    figure, axes = _diagram(inches)
    for i, (name, (xs, ys)) in enumerate(value.lines.items()):
        marker, style = "." if len(xs) <= FEW else "", "-" if i < COLOURS else "--"
        axes.plot(xs, ys, label=name, marker=marker, linestyle=style, linewidth=1.2)
    axes.set(title=value.title, xlabel=value.x_title, ylabel=value.y_title, yscale="log" if value.log_y else "linear")
    if value.y_range is not None:
        axes.set_ylim(*value.y_range)
    axes.grid(alpha=0.3)
    if value.lines:
        axes.legend(fontsize="small")
    return _drawn(figure)


def fields(value: Grid, inches: float = 0.6) -> Pixels:
    """A plane of fields, each coloured by its figure with its mark over it; those without a figure are grey."""
    height, width = value.values.shape
    figure, axes = _diagram((max(4.0, inches * width), max(2.5, inches * height + 1.0)), layout="constrained")
    axes.set_facecolor("lightgrey")
    shown = axes.imshow(value.values.numpy(), cmap="viridis")
    figure.colorbar(shown, ax=axes, location="bottom", fraction=0.05)
    middle = np.nanmean(value.values.numpy()) if bool(value.values.isfinite().any()) else 0.0
    for r, row in enumerate(value.marks):
        for c, mark in enumerate(row):
            figure_here = float(value.values[r, c])
            ink = "black" if not figure_here < middle else "white"
            text = mark if math.isnan(figure_here) else f"{mark}\n{figure_here:.3g}"
            axes.text(c, r, text, ha="center", va="center", color=ink, fontsize=8)
    axes.set(title=value.title, xticks=[], yticks=[])
    return _drawn(figure)


def _diagram(inches: tuple[float, float], layout: Literal["constrained"] | None = None) -> tuple[Any, Any]:
    """A figure and its axes, with margins that fit plain numbers: a layout that measures them draws everything twice."""
    from matplotlib.figure import Figure  # not pyplot: it would look for a screen

    figure = Figure(figsize=inches, layout=layout)
    axes = figure.subplots()
    if layout is None:
        width, height = inches
        figure.subplots_adjust(left=0.85 / width, right=1 - 0.15 / width, bottom=0.55 / height, top=1 - 0.4 / height)
    return figure, axes


def _drawn(figure: Any) -> Pixels:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]
